"""grm-service: the reward service that explains itself.

    from grm_service import Judge

    with Judge.load() as judge:
        verdict = judge.rewards(query, responses, k=8)

Importing the package is light: `grm_service.client` runs inside other people's trainers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from grm_service.version import __version__

if TYPE_CHECKING:
    from grm_service.in_process import AsyncJudge, Judge
    from grm_service.types import JudgeOptions

__all__ = ["AsyncJudge", "Judge", "JudgeOptions", "__version__"]
_MODULES = {
    "AsyncJudge": "grm_service.in_process",
    "Judge": "grm_service.in_process",
    "JudgeOptions": "grm_service.types",
}


def __getattr__(name: str) -> Any:
    """Import the names of the package on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
