"""The CPU cores, instructions and memory that this process may use, container limits (cgroup v2) included."""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_WITHOUT_BF16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}
"""Limits of oneDNN (ONEDNN_MAX_CPU_ISA) below its first instruction set with products in bf16."""


def cpu_cores() -> int:
    """Return the number of usable cores: the process's CPU affinity, or the container's quota if smaller."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _read("cpu.max").split()
    if len(quota) == 2 and quota[0] != "max":
        allowed = min(allowed, math.ceil(int(quota[0]) / int(quota[1])))
    return max(1, allowed)


def free_memory_gb() -> float:
    """Return the free memory in GiB: of the machine, or of the container if that is less."""
    free = float(psutil.virtual_memory().available)
    limit, used = _read("memory.max"), _read("memory.current")
    if limit.isdecimal() and used.isdecimal():
        free = min(free, int(limit) - int(used))
    return free / 2**30


def onednn_limited_to_f32() -> bool:
    """Return whether the environment limits oneDNN to instruction sets without products in bf16."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", ""))
    return limit.upper() in _WITHOUT_BF16


def _read(name: str) -> str:
    try:
        return (_CGROUP / name).read_text().strip()
    except OSError:
        return ""
