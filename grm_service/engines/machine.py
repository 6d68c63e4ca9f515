"""What of this machine the process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """Cores to compute on: those of the process' affinity, fewer where its container's quota is smaller."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _read("cpu.max").split()
    if len(quota) == 2 and quota[0] != "max":
        allowed = min(allowed, math.ceil(int(quota[0]) / int(quota[1])))
    return max(1, allowed)


def free_gb() -> float:
    """Memory that is left, in GiB: of the machine, or of the process' container where that is less."""
    free = float(psutil.virtual_memory().available)
    most, used = _read("memory.max"), _read("memory.current")
    if most.isdecimal() and used.isdecimal():
        free = min(free, int(most) - int(used))
    return free / 2**30


def _read(name: str) -> str:
    try:
        return (_CGROUP / name).read_text().strip()
    except OSError:
        return ""
