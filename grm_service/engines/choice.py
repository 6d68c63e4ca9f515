"""Choice of the embedded engine that runs a model (`--engine auto`), and of the embedded meta RM."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import Literal

from grm_service.engines.base import Engine, MetaRM
from grm_service.engines.files.source import ModelSource, is_openvino_model, openvino_path, transformers_path
from grm_service.engines.isolated import IsolatedEngine, IsolatedMetaRM
from grm_service.errors import MissingExtra

EmbeddedName = Literal["openvino", "transformers"]


def choose_engine(
    name: Literal["auto"] | EmbeddedName, source: ModelSource, kv_cache_gb: float | None, precision: str
) -> tuple[Engine, str]:
    """Return an embedded engine in a child process, and the reason for the choice.

    Nothing is downloaded or loaded until its `start`. `kv_cache_gb` is in GiB; None is the engine's default.
    """
    if name == "auto":
        name, reason = _auto(source)
    else:
        reason = "configured"
    build = _build_openvino if name == "openvino" else _build_transformers
    return IsolatedEngine(name, source.model, partial(build, source, kv_cache_gb, precision)), reason


def embedded_meta_rm(model: str) -> MetaRM:
    """Return a meta RM (hub id or path) in a child process. Nothing is loaded until its `start`."""
    return IsolatedMetaRM(model, partial(_build_meta_rm, model))


# The builders run in the child process: the engines' modules import torch or openvino_genai there.


def _build_meta_rm(model: str) -> MetaRM:
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise MissingExtra("local", "an embedded meta RM (GRM_META_RM_URL uses a server instead)")
    from grm_service.engines.meta_rm import TransformersMetaRM

    return TransformersMetaRM(model)


def _build_openvino(source: ModelSource, kv_cache_gb: float | None, precision: str) -> Engine:
    if find_spec("openvino_genai") is None or find_spec("gguf") is None:
        raise MissingExtra("cpu", "the openvino engine")
    from grm_service.engines.openvino.engine import OpenVINOEngine

    return OpenVINOEngine(source.model, partial(openvino_path, source), kv_cache_gb, precision)


def _build_transformers(source: ModelSource, kv_cache_gb: float | None, precision: str) -> Engine:
    if find_spec("torch") is None or find_spec("llguidance") is None:
        raise MissingExtra("local", "the transformers engine")
    from grm_service.engines.transformers.engine import TransformersEngine

    return TransformersEngine(source.model, partial(transformers_path, source), kv_cache_gb)


def _auto(source: ModelSource) -> tuple[EmbeddedName, str]:
    if find_spec("torch") is not None and _has_cuda():
        return "transformers", "CUDA is available"
    if find_spec("openvino_genai") is None:
        return "transformers", "openvino-genai is not installed"
    if is_openvino_model(source):
        return "openvino", "the fastest engine on a CPU that can load this model"
    return "transformers", "the model is neither a GGUF nor an exported folder, which openvino needs"


def _has_cuda() -> bool:
    from grm_service.engines.transformers.engine import has_cuda

    return has_cuda()
