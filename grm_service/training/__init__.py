"""Training of a judge with SPCT (arXiv 2504.02495): rejective fine-tuning, online RL and a meta RM.

`run_rft`, `run_grpo` and `run_meta_rm` train; `sample_trajectories` and `fill_trajectories` make their data.
Names are imported on first use: the modules behind them import the service and the engines.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grm_service.training.callbacks import TrainingCallback
    from grm_service.training.cold_start import fill_trajectories
    from grm_service.training.grpo import GRPOConfig, run_grpo
    from grm_service.training.meta_rm import MetaRMConfig, run_meta_rm
    from grm_service.training.rft import RFTConfig, run_rft
    from grm_service.training.runs import TrainingResult
    from grm_service.training.sampling import SamplingConfig, sample_trajectories

__all__ = [
    "GRPOConfig",
    "MetaRMConfig",
    "RFTConfig",
    "SamplingConfig",
    "TrainingCallback",
    "TrainingResult",
    "fill_trajectories",
    "run_grpo",
    "run_meta_rm",
    "run_rft",
    "sample_trajectories",
]

_MODULES = {
    "GRPOConfig": "grpo",
    "MetaRMConfig": "meta_rm",
    "RFTConfig": "rft",
    "SamplingConfig": "sampling",
    "TrainingCallback": "callbacks",
    "TrainingResult": "runs",
    "fill_trajectories": "cold_start",
    "run_grpo": "grpo",
    "run_meta_rm": "meta_rm",
    "run_rft": "rft",
    "sample_trajectories": "sampling",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
