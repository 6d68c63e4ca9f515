"""Evaluation of a judge on preference data: accuracy, scaling with k, calibration, biases and cost.

    from grm_service.evaluation import evaluate

The entry points are imported on first use, so that importing this package stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grm_service.evaluation.run import compare, evaluate, reproduce

__all__ = ["compare", "evaluate", "reproduce"]


def __getattr__(name: str) -> Any:
    """Import an entry point on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.run"), name)
