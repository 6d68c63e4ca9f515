"""The embedded engine compared with vLLM on the CPU and with llama.cpp's server."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import httpx

from benchmarks import servers, workload
from benchmarks.embedded import engine_alone
from benchmarks.results import Row, Table
from grm_service.engines import machine
from grm_service.engines.files import weights

_BIN = Path(__file__).parents[1] / ".vllm/bin"
_KS = (8, 16)


def tables() -> list[Table]:
    if not (_BIN / "vllm").exists():
        return [Table("Beside other servers", [Row("not measured", "`make .vllm` installs them")])]
    ours = {k: asyncio.run(engine_alone(k)) for k in _KS}
    rows = []
    for name, server in (("vLLM on the CPU, compiled", _vllm()), ("llama.cpp's server", _llama())):
        with server as running:
            for k in _KS:
                seconds, speed = asyncio.run(_served(running.url, k))
                ratio = ours[k][1] / speed
                rows.append(
                    Row(
                        f"the openvino engine over {name}, k = {k}, tokens/s",
                        f"{ratio:.2f} × ({ours[k][1]:.0f} over {speed:.0f})",
                        "more than 1 ×",
                        ratio > 1,
                        f"{ours[k][0]:.2f} · {seconds:.2f}",
                    )
                )
    notes = (
        f"One prompt of about 1,000 tokens, not cached, k samples of {workload.NEW_TOKENS} tokens; vLLM in "
        "bf16, llama.cpp with the F16 GGUF, both with `n = k`; all ignore end tokens; medians of 3 after a "
        "warm-up."
    )
    return [Table("Beside other servers, on the CPU", rows, notes)]


def _vllm() -> Any:
    source = workload.source()
    assert source.gguf is not None
    command = [
        str(_BIN / "vllm"), "serve", str(weights.ensure_safetensors(source.gguf, source.cache)),
        "--host", "127.0.0.1", "--port", "{port}", "--dtype", "bfloat16",
        "--max-model-len", "4096", "--max-num-seqs", "32",
        "--served-model-name", "m",
    ]  # fmt: skip
    cores = f"0-{machine.cpu_cores() - 1}"
    return servers.started(
        command, "/health", 600, HF_HUB_OFFLINE="1", VLLM_CPU_KVCACHE_SPACE="2",
        VLLM_CPU_OMP_THREADS_BIND=cores, VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1",
        PATH=f"{_BIN}{os.pathsep}{os.environ['PATH']}",
    )  # fmt: skip


def _llama() -> Any:
    source = workload.source()
    assert source.gguf is not None
    k = str(max(_KS))
    command = [
        str(_BIN / "llama-server"), "-m", str(weights.ensure_engine_gguf(source.gguf, source.cache)),
        "--host", "127.0.0.1", "--port", "{port}", "-c", "32768",
        "-np", k, "-kvu", "-t", str(machine.cpu_cores()), "--alias", "m",
    ]  # fmt: skip
    return servers.started(command, "/health")


async def _served(url: str, k: int) -> tuple[float, float]:
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:

        async def sample() -> int:
            body = {
                "model": "m",
                "messages": [{"role": m.role, "content": m.content} for m in workload.prompt().messages],
                "n": k,
                "max_tokens": workload.NEW_TOKENS,
                "temperature": 0.7,
                "ignore_eos": True,
            }
            reply = (await client.post("/v1/chat/completions", json=body)).raise_for_status().json()
            assert len(reply["choices"]) == k
            return k * workload.NEW_TOKENS

        runs = [await workload.timed(sample) for _ in range(4)][1:]
    return workload.median([run[0] for run in runs]), workload.median([run[1] for run in runs])
