"""Conversion of a transformers checkpoint, with its LoRA adapter merged in, to a GGUF for OpenVINO."""

from __future__ import annotations

import logging
import shlex
import tempfile
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grm_service.engines.files.adapter import base_folder, is_adapter
from grm_service.engines.files.checkpoint import EMBEDDING, Checkpoint, has_weights
from grm_service.engines.files.gguf_tokenizer import write_tokenizer
from grm_service.engines.files.merge import interleave_halves
from grm_service.engines.files.tensors import add_tensor_info, encode
from grm_service.errors import MissingExtra, ModelNotLoaded
from grm_service.profiles.model_files import Encoding

if TYPE_CHECKING:
    from grm_service.engines.files.adapter import Array

logger = logging.getLogger(__name__)


def convert(source: Path, target: Path, base: Path | None = None, encoding: Encoding = "f16") -> None:
    """Convert the model or adapter in the folder `source` to the GGUF `target`, atomically.

    `base` is the folder of an adapter's base model; by default the one that the adapter's configuration
    names. Raises ModelNotLoaded, MissingExtra.
    """
    if target.suffix != ".gguf":
        raise ModelNotLoaded(
            f"{target} does not end in .gguf: the engines recognise the format by its suffix"
        )
    if find_spec("gguf") is None:
        raise MissingExtra("cpu", f"converting {source}")
    try:
        checkpoint = Checkpoint.load(source, base)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as partial:
            _write(checkpoint, Path(partial) / target.name, encoding)
            (Path(partial) / target.name).replace(target)
    except (OSError, ValueError, KeyError, FloatingPointError) as error:
        raise ModelNotLoaded(f"{source} cannot be converted: {type(error).__name__}: {error}") from error


def convert_command(path: Path) -> str:
    """Return the CLI command that converts a folder."""
    has_base = not is_adapter(path) or (base_folder(path) and not has_weights(path))
    base = [] if has_base else ["--base", "FOLDER"]
    return shlex.join(["grm", "models", "convert", str(path), f"{path}.gguf", *base])


def _write(checkpoint: Checkpoint, target: Path, encoding: Encoding) -> None:
    from gguf import GGUFWriter

    names = _gguf_names(checkpoint)
    with closing(GGUFWriter(target, checkpoint.family)) as writer:
        _write_metadata(checkpoint, writer, encoding)
        write_tokenizer(checkpoint.tokenizer, checkpoint.shape(EMBEDDING)[0], writer)
        for name, gguf_name in names.items():
            add_tensor_info(writer, gguf_name, checkpoint.shape(name), encoding)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        _write_weights(checkpoint, list(names), writer, encoding)


def _gguf_names(checkpoint: Checkpoint) -> dict[str, str]:
    """Return the GGUF name of each weight. Raises ModelNotLoaded if one has none: no weight is left out."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    blocks = checkpoint.config["num_hidden_layers"]
    mapping = get_tensor_name_map(MODEL_ARCH[checkpoint.family.upper()], blocks)
    names = {name: mapping.get_name(name, (".weight", ".bias")) for name in checkpoint.tensors}
    if unknown := [name for name, gguf_name in names.items() if gguf_name is None]:
        raise ModelNotLoaded(f"a GGUF has no name for {len(unknown)} weights, such as {unknown[0]}")
    return names


def _write_metadata(checkpoint: Checkpoint, writer: Any, encoding: Encoding) -> None:
    from gguf import LlamaFileType

    config = checkpoint.config
    queries, keys, size = checkpoint.heads
    writer.add_name(checkpoint.name)
    writer.add_file_type(LlamaFileType[f"MOSTLY_{encoding.upper()}"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(queries)
    writer.add_head_count_kv(keys)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(checkpoint.rope_theta)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(checkpoint.shape(EMBEDDING)[0])


def _write_weights(checkpoint: Checkpoint, names: list[str], writer: Any, encoding: Encoding) -> None:
    logger.info("writing %d weights", len(names))
    changed, differs = checkpoint.adapter.changed_names, False
    for name in names:
        weight = _encode(checkpoint, name, checkpoint.merged_weight(name), encoding)
        if name in changed and not differs:
            before = _encode(checkpoint, name, checkpoint.base_weight(name), encoding)
            differs = weight.shape != before.shape or bool((weight != before).any())
        writer.write_tensor_data(weight)
    if changed and not differs:
        raise ModelNotLoaded(f"the adapter {checkpoint.name} changes nothing: was it trained?")


def _encode(checkpoint: Checkpoint, name: str, weight: Array, encoding: Encoding) -> Array:
    queries, keys, _ = checkpoint.heads
    heads = {"q_proj.weight": queries, "k_proj.weight": keys}.get(".".join(name.split(".")[-2:]))
    if heads and checkpoint.family == "llama":
        weight = interleave_halves(weight, heads)
    return encode(weight, encoding)
