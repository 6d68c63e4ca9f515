"""The model cache: models downloaded, and re-encoded or exported once for the engine that loads them.

Each file is written to a temporary folder and moved into place when it is complete, under a lock. So a killed
process leaves no partial file, and two processes do not disturb each other.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from grm_service.engines.files.adapter import weights_file
from grm_service.engines.files.download import check_sha256, download
from grm_service.engines.files.merge import merge_functions
from grm_service.engines.files.metadata import read_metadata, write_metadata
from grm_service.engines.files.tensors import add_tensor_info, encode
from grm_service.errors import MissingExtra, ModelNotLoaded
from grm_service.profiles.model_files import GGUF, AdapterFolder, Encoding

logger = logging.getLogger(__name__)
_ORIGINAL, _SAFETENSORS, _OPENVINO = "original.gguf", "safetensors", "openvino"


def ensure_original_gguf(gguf: GGUF, cache: Path) -> Path:
    """Return the GGUF as it was published, downloaded if it is not in the cache. Raises ModelNotLoaded.

    An interrupted download is resumed.
    """
    folder = _folder(gguf, cache)
    return _ensure(folder / _ORIGINAL, partial(download, gguf, folder / "download"))


def ensure_engine_gguf(gguf: GGUF, cache: Path, adapter: AdapterFolder | None = None) -> Path:
    """Return the GGUF in the profile's encoding with the adapter merged in, created if not in the cache.

    Raises ModelNotLoaded, MissingExtra.
    """
    path = _folder(gguf, cache, adapter) / f"{gguf.encoding}.gguf"
    return path if path.exists() else _ensure(path, _reencoding(gguf, cache, adapter))


def ensure_openvino(gguf: GGUF, cache: Path, adapter: AdapterFolder | None = None) -> Path:
    """Return the model as a folder of OpenVINO, created if it is not in the cache.

    Its weights are those of `ensure_engine_gguf`, because OpenVINO misreads Q4_1 into fluent but wrong text
    and silently ignores an adapter. A folder is mapped into memory: OpenVINO reads a GGUF into half as much
    again, in nine times as long. Raises as `ensure_engine_gguf`.
    """
    path = _folder(gguf, cache, adapter) / _OPENVINO
    return path if path.exists() else _ensure(path, partial(_export, _reencoding(gguf, cache, adapter)))


def ensure_safetensors(gguf: GGUF, cache: Path, adapter: AdapterFolder | None = None) -> Path:
    """Return the model as a transformers folder, created if it is not in the cache.

    It is converted from the GGUF of the openvino engine, so that both have the same weights. Raises as
    `ensure_engine_gguf`.
    """
    path = _folder(gguf, cache, adapter) / _SAFETENSORS
    if path.exists():
        return path
    return _ensure(path, partial(_convert, ensure_engine_gguf(gguf, cache, adapter), gguf.encoding))


def _reencoding(gguf: GGUF, cache: Path, adapter: AdapterFolder | None) -> Callable[[Path], None]:
    """Return the function that writes the engine's GGUF, when all that it needs is there and checked."""
    if adapter is not None:
        file = weights_file(Path(adapter.folder).expanduser())
        check_sha256(file, file, adapter.sha256)
    return partial(_reencode, ensure_original_gguf(gguf, cache), gguf.encoding, adapter)


def _folder(gguf: GGUF, cache: Path, adapter: AdapterFolder | None = None) -> Path:
    folder = cache.expanduser() / gguf.sha256[:16]
    return folder / adapter.sha256[:16] if adapter else folder


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


def _reencode(source: Path, encoding: Encoding, adapter: AdapterFolder | None, target: Path) -> None:
    try:
        from gguf import GGUFReader, GGUFWriter, LlamaFileType
        from gguf.quants import dequantize
    except ImportError:
        raise MissingExtra("cpu", f"re-encoding {source.name}") from None
    merged = " with its adapter merged in" if adapter else ""
    logger.info("re-encoding the model as %s%s (once, minutes for a large model)", encoding, merged)
    reader = GGUFReader(source)
    merge = merge_functions(reader, Path(adapter.folder).expanduser()) if adapter else {}
    with closing(GGUFWriter(target, reader.fields["general.architecture"].contents())) as writer:
        copy_fields(reader, writer)
        writer.add_file_type(LlamaFileType[f"MOSTLY_{encoding.upper()}"])
        for tensor in reader.tensors:
            add_tensor_info(writer, tensor.name, tuple(int(x) for x in reversed(tensor.shape)), encoding)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in reader.tensors:
            weight = dequantize(tensor.data, tensor.tensor_type)
            if tensor.name in merge:
                weight = merge[tensor.name](weight)
            writer.write_tensor_data(encode(weight, encoding))


def _export(write_gguf: Callable[[Path], None], folder: Path) -> None:
    try:
        import openvino_genai as genai
    except ImportError:
        raise MissingExtra("cpu", "exporting a model for openvino") from None
    folder.mkdir()
    gguf = folder / "model.gguf"
    write_gguf(gguf)
    write_metadata(read_metadata(gguf), folder)
    logger.info("exporting the model for openvino (once)")
    # Both write their models next to the GGUF. Without a tokenizer the pipeline would read the GGUF for one.
    save = {"enable_save_ov_model": True}
    tokenizer = genai.Tokenizer(gguf, **save)
    genai.ContinuousBatchingPipeline(gguf, tokenizer, genai.SchedulerConfig(), "CPU", **save)
    gguf.unlink()


def copy_fields(reader: Any, writer: Any) -> None:
    """Copy all metadata of a GGUF, except the encoding of its weights."""
    from gguf import GGUFValueType

    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key not in _NOT_COPIED:
            item_type = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], sub_type=item_type)


_NOT_COPIED = {"general.architecture", "general.file_type", "general.quantization_version"}


def _convert(source: Path, encoding: Encoding, target: Path) -> None:
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        raise MissingExtra("local", f"reading {source.name} with transformers") from None
    logger.info("converting the model to safetensors for transformers (once)")
    options = {"gguf_file": source.name, "local_files_only": True}
    AutoTokenizer.from_pretrained(source.parent, **options).save_pretrained(target)
    # float32 represents all F16 weights and F32 norms exactly, so greedy text equals OpenVINO's. Weights of
    # 8 bits belong to models for which it would be too large.
    dtype = torch.float32 if encoding == "f16" else torch.bfloat16
    loaded = AutoModelForCausalLM.from_pretrained(source.parent, dtype=dtype, **options)
    # transformers refuses to save a model loaded from a GGUF, as if it were quantised: copy its weights.
    config = type(loaded.config).from_dict(
        {k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"}
    )
    with torch.device("meta"):
        plain = type(loaded)(config)
    plain.load_state_dict(loaded.state_dict(), assign=True)
    plain.generation_config = loaded.generation_config
    plain.save_pretrained(target)
