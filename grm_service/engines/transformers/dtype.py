"""The precision in which torch computes a model: the checkpoint's, or float32 on a CPU that emulates it.

On a CPU without instructions for bf16 or f16 a matrix product in them is many times slower than in float32
(docs/performance.md has figures).
"""

from __future__ import annotations

import logging
import platform
from typing import TYPE_CHECKING, Any, Literal

from grm_service.engines import machine

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


def placed(model: Any, name: str) -> Any:
    """Return a loaded model on the device that computes it, in a precision that the device is fast in.

    A quantised model keeps its precision. `name` is for the log.
    """
    stored, where = model.dtype, device()
    quantized = getattr(model, "is_quantized", False)
    dtype = stored if quantized else compute_dtype(stored, where)
    if dtype == stored:
        logger.info("%s computes in %s on %s, as it is stored", name, _short(dtype), where)
    else:
        why = f"this CPU has no instructions for {_short(stored)}, in which it is stored"
        logger.info("%s computes in %s on %s: %s", name, _short(dtype), where, why)
        model = model.to(dtype)
    return model.to(where).eval()


def device() -> Literal["cuda", "cpu"]:
    """Return the device that computes models: the GPU if torch sees one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def compute_dtype(stored: torch.dtype, device: str) -> torch.dtype:
    """Return the precision to compute a checkpoint in: its own, or float32 if this CPU emulates its own."""
    import torch

    native = {torch.bfloat16: has_bf16, torch.float16: has_f16}
    if device == "cpu" and stored in native and not native[stored](device):
        return torch.float32
    return stored


def has_bf16(device: str) -> bool:
    """Return whether a device, "cuda" or "cpu", multiplies matrices in bf16 in hardware."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # On x86, oneDNN also reports bf16 that it emulates with AVX-512.
    emulated = platform.machine().lower() in ("x86_64", "amd64") and (
        machine.onednn_limited_to_f32()
        or not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    )
    return not emulated and _onednn("_is_mkldnn_bf16_supported")


def has_f16(device: str) -> bool:
    """Return whether a device, "cuda" or "cpu", multiplies matrices in f16 in hardware."""
    return device == "cuda" or _onednn("_is_mkldnn_fp16_supported")


def _onednn(query: str) -> bool:
    """Return torch's answer about oneDNN, False if torch was built without oneDNN."""
    import torch

    return bool(torch.backends.mkldnn.is_available() and getattr(torch.ops.mkldnn, query)())


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
