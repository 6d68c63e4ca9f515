"""Tensors of a GGUF in the encodings that we write."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from grm_service.profiles.model_files import Encoding

if TYPE_CHECKING:
    from grm_service.engines.files.adapter import Array


def add_tensor_info(writer: Any, name: str, shape: tuple[int, ...], encoding: Encoding) -> None:
    """Announce a tensor, whose data are written later."""
    import numpy as np
    from gguf.quants import quant_shape_to_byte_shape

    kind = _tensor_type(shape, encoding)
    size = math.prod(quant_shape_to_byte_shape(shape, kind))
    writer.add_tensor_info(name, shape, np.dtype(np.float32), size, raw_dtype=kind)


def encode(weight: Array, encoding: Encoding) -> Array:
    """Return the data of a weight (float32); vectors stay as they are. Raises FloatingPointError."""
    import numpy as np
    from gguf.quants import quantize

    with np.errstate(over="raise"):  # a weight outside F16's range would become infinite
        encoded: Array = quantize(weight, _tensor_type(weight.shape, encoding))
    return encoded


def _tensor_type(shape: tuple[int, ...], encoding: Encoding) -> Any:
    from gguf import GGMLQuantizationType

    return GGMLQuantizationType["F32" if len(shape) == 1 else encoding.upper()]
