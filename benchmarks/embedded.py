"""The service with its embedded engine, compared with `generate` and with the hardware's limit."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from unittest.mock import patch

import httpx

from benchmarks import servers, workload
from benchmarks.results import Row, Table
from grm_service.engines.openvino import engine as openvino
from grm_service.engines.openvino.pipeline import Pipeline
from grm_service.types import Params

_TARGETS = {8: 8.0, 16: 10.0}
_REPEATS = 3


def tables() -> list[Table]:
    bound = _Bound()
    rows = [row for k, target in _TARGETS.items() for row in _rows(bound, k, target)]
    notes = (
        f"SmolLM2-135M; a pair whose prompt has about 1,000 tokens, {workload.NEW_TOKENS} new tokens a "
        f"sample, nothing cached, medians of {_REPEATS} alternating runs. `generate` is transformers' own "
        "with `num_return_sequences=k` in bf16; it generates exactly this many tokens, and so does the "
        "engine alone. The service also closes truncated critiques, prefills two orders and may end a sample "
        "early, so tokens a second are compared; samples that end early leave smaller batches, which lowers "
        f"its figure. The bound: {bound.describe()}. The speed of `generate` depends on the CPU far more "
        "than that of OpenVINO: with bf16 matrix tiles (AMX) it is several times faster than without, and "
        "the ratio smaller by as much."
    )
    return [Table("Embedded, on the CPU", rows, notes)]


def _rows(bound: _Bound, k: int, target: float) -> list[Row]:
    with servers.grm() as server:
        asyncio.run(_service(server.url, k))
        plain, whole = [], []
        for _ in range(_REPEATS):
            plain.append(_generate(bound.model, bound.tokenizer, k))
            whole.append(asyncio.run(_service(server.url, k)))
    plain_s = workload.median(plain)
    seconds, speed = (workload.median([run[i] for run in whole]) for i in (0, 1))
    plain_speed = k * workload.NEW_TOKENS / plain_s
    engine_s, engine_speed = asyncio.run(engine_alone(k))
    exact_s, exact_speed = asyncio.run(engine_alone(k, "f32"))
    bound_s = bound.seconds(k)
    return [
        Row(
            f"whole service over `generate`, k = {k}, tokens/s",
            f"{speed / plain_speed:.1f} × ({speed:.0f} over {plain_speed:.0f})",
            f"at least {target:.0f} ×",
            speed / plain_speed >= target,
            f"{seconds:.2f} · {plain_s:.1f}",
        ),
        Row(
            f"the openvino engine alone over the bound, k = {k}",
            f"{engine_s / bound_s:.1f} × as long",
            seconds=f"{engine_s:.2f} · {bound_s:.2f}",
        ),
        Row(
            f"`GRM_PRECISION=f32` over the default, the engine alone, k = {k}, tokens/s",
            f"{exact_speed / engine_speed:.2f} ×",
            seconds=f"{exact_s:.2f} · {engine_s:.2f}",
        ),
    ]


async def _service(url: str, k: int) -> tuple[float, float]:
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:

        async def judge() -> int:
            reply = (await client.post("/v1/rewards", json=workload.request(k))).raise_for_status().json()
            return int(reply["usage"]["completion_tokens"])

        return await workload.timed(judge)


class _Endless(Pipeline):
    """Ignores end tokens, so that all engines generate the same number of tokens."""

    def _config(self, params: Params) -> Any:
        config = super()._config(params)
        config.ignore_eos = True
        return config


async def engine_alone(k: int, precision: str = "auto") -> tuple[float, float]:
    engine = workload.bare_engine(precision=precision)
    with patch.object(openvino, "Pipeline", _Endless):
        await engine.start()

    async def complete() -> int:
        prompt = workload.prompt()
        pending = (engine.complete(prompt, Params(workload.NEW_TOKENS, 0.7, 1.0, seed)) for seed in range(k))
        return sum([done.usage.completion_tokens for done in await asyncio.gather(*pending)])

    runs = [await workload.timed(complete) for _ in range(4)][1:]
    await engine.close()
    return workload.median([run[0] for run in runs]), workload.median([run[1] for run in runs])


def _generate(model: Any, tokenizer: Any, k: int) -> float:
    import torch

    prompt = workload.prompt()
    text = tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in prompt.messages],
        add_generation_prompt=True,
        tokenize=False,
    )
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    length = {"max_new_tokens": workload.NEW_TOKENS, "min_new_tokens": workload.NEW_TOKENS}
    begun = time.perf_counter()
    with torch.inference_mode():
        model.generate(**ids, **length, do_sample=True, temperature=0.7, num_return_sequences=k)
    return time.perf_counter() - begun


class _Bound:
    """The lower bound of the time on this machine, from its measured arithmetic and memory speed."""

    def __init__(self) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from grm_service.engines.files import weights
        from grm_service.engines.transformers.dtype import compute_dtype

        source = workload.source()
        assert source.gguf is not None
        path = weights.ensure_safetensors(source.gguf, source.cache)
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=compute_dtype(torch.bfloat16, "cpu"))
        self._parameters = sum(p.numel() for p in self.model.parameters())
        self._bandwidth = self._measure_bandwidth(torch)
        self._flops = self._measure_flops(torch)

    @staticmethod
    def _measure_bandwidth(torch: Any) -> float:
        data = torch.ones(2**28)  # 1 GiB of float32
        return float(data.numel() * 4 / min(_seconds(data.sum) for _ in range(5)))

    @staticmethod
    def _measure_flops(torch: Any) -> float:
        a = torch.randn(2048, 2048).bfloat16()
        return float(2 * 2048**3 / min(_seconds(lambda: a @ a) for _ in range(10)))

    def seconds(self, k: int, prefix: int = 1000) -> float:
        """Return the time of a prefill and all steps.

        A step takes as long as reading the weights or computing k rows, whichever is longer.
        """
        prefill = 2 * self._parameters * prefix / self._flops
        step = max(2 * self._parameters / self._bandwidth, 2 * self._parameters * k / self._flops)
        return prefill + workload.NEW_TOKENS * step

    def describe(self) -> str:
        peak = f"{self._flops / 1e9:.0f} GFLOP/s (bf16, 2048³)"
        return (
            f"prefill flops + {workload.NEW_TOKENS} steps x the larger of weight bytes over "
            f"{self._bandwidth / 1e9:.1f} GB/s and flops over {peak}, {self._parameters / 1e6:.0f} M weights"
        )


def _seconds(run: Any) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun
