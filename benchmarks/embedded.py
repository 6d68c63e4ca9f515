"""The service with its embedded engine beside `generate`, and both beside what the hardware allows."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from unittest.mock import patch

import httpx

from benchmarks import servers, work
from benchmarks.results import Row, Table
from grm_service.engines.openvino import engine as openvino
from grm_service.engines.openvino.pipeline import Pipeline
from grm_service.types import Params

_WANTED = {8: 8.0, 16: 10.0}
_REPEATS = 3


def tables() -> list[Table]:
    bound = _Bound()
    rows = [row for k, wanted in _WANTED.items() for row in _rows(bound, k, wanted)]
    notes = (
        f"SmolLM2-135M; a pair whose prompt has about 1,000 tokens, {work.NEW_TOKENS} new tokens a sample, "
        f"cold caches, medians of {_REPEATS}, in turn. `generate` is transformers' own with "
        "`num_return_sequences=k` in bf16 and writes exactly these tokens, as does the engine alone. The "
        "service also closes what was cut, prefills two orders and may end a sample early, so tokens a "
        "second are compared; where rows end early fewer are computed at once, which lowers its figure. "
        f"The bound: {bound.told()}. What `generate` can do depends on the CPU far more than what OpenVINO "
        "can: where the processor multiplies matrices in bf16 tiles (AMX), it is several times faster than "
        "where it does not, and the ratio as much smaller."
    )
    return [Table("Embedded, on the CPU", rows, notes)]


def _rows(bound: _Bound, k: int, wanted: float) -> list[Row]:
    with servers.grm() as server:
        asyncio.run(_service(server.url, k))
        plain, whole = [], []
        for _ in range(_REPEATS):
            plain.append(_generate(bound.model, bound.tokenizer, k))
            whole.append(asyncio.run(_service(server.url, k)))
    plain_s = work.median(plain)
    seconds, speed = (work.median([run[i] for run in whole]) for i in (0, 1))
    plain_speed = k * work.NEW_TOKENS / plain_s
    engine_s, engine_speed = asyncio.run(engine_alone(k))
    exact_s, exact_speed = asyncio.run(engine_alone(k, "f32"))
    least = bound.seconds(k)
    return [
        Row(
            f"whole service over `generate`, k = {k}, tokens/s",
            f"{speed / plain_speed:.1f} × ({speed:.0f} over {plain_speed:.0f})",
            f"at least {wanted:.0f} ×",
            speed / plain_speed >= wanted,
            f"{seconds:.2f} · {plain_s:.1f}",
        ),
        Row(
            f"the openvino engine alone over the bound, k = {k}",
            f"{engine_s / least:.1f} × as long",
            seconds=f"{engine_s:.2f} · {least:.2f}",
        ),
        Row(
            f"`GRM_PRECISION=f32` over the default, the engine alone, k = {k}, tokens/s",
            f"{exact_speed / engine_speed:.2f} ×",
            seconds=f"{exact_s:.2f} · {engine_s:.2f}",
        ),
    ]


async def _service(url: str, k: int) -> tuple[float, float]:
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:

        async def judged() -> int:
            reply = (await client.post("/v1/rewards", json=work.request(k))).raise_for_status().json()
            return int(reply["usage"]["completion_tokens"])

        return await work.timed(judged)


class _Endless(Pipeline):
    """Does not end before it has to, as the others are told: the same work for all."""

    def _config(self, params: Params) -> Any:
        config = super()._config(params)
        config.ignore_eos = True
        return config


async def engine_alone(k: int, precision: str = "auto") -> tuple[float, float]:
    engine = work.bare_engine(precision=precision)
    with patch.object(openvino, "Pipeline", _Endless):
        await engine.start()

    async def completed() -> int:
        prompt = work.prompt()
        asked = (engine.complete(prompt, Params(work.NEW_TOKENS, 0.7, 1.0, seed)) for seed in range(k))
        return sum([done.usage.completion_tokens for done in await asyncio.gather(*asked)])

    runs = [await work.timed(completed) for _ in range(4)][1:]
    await engine.close()
    return work.median([run[0] for run in runs]), work.median([run[1] for run in runs])


def _generate(model: Any, tokenizer: Any, k: int) -> float:
    import torch

    prompt = work.prompt()
    text = tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in prompt.messages],
        add_generation_prompt=True,
        tokenize=False,
    )
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    length = {"max_new_tokens": work.NEW_TOKENS, "min_new_tokens": work.NEW_TOKENS}
    begun = time.perf_counter()
    with torch.inference_mode():
        model.generate(**ids, **length, do_sample=True, temperature=0.7, num_return_sequences=k)
    return time.perf_counter() - begun


class _Bound:
    """What the arithmetic and the memory of this machine allow, measured on the spot."""

    def __init__(self) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from grm_service.engines.files import weights

        found = work.source()
        assert found.package is not None
        path = weights.ensure_safetensors(found.package, found.cache)
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
        self._parameters = sum(p.numel() for p in self.model.parameters())
        self._bandwidth = self._read(torch)
        self._flops = self._multiply(torch)

    @staticmethod
    def _read(torch: Any) -> float:
        data = torch.ones(2**28)  # 1 GiB of float32
        return float(data.numel() * 4 / min(_seconds(data.sum) for _ in range(5)))

    @staticmethod
    def _multiply(torch: Any) -> float:
        a = torch.randn(2048, 2048).bfloat16()
        return float(2 * 2048**3 / min(_seconds(lambda: a @ a) for _ in range(10)))

    def seconds(self, k: int, prefix: int = 1000) -> float:
        """One prefill, then steps that each read the weights or compute k rows, whichever takes longer."""
        prefill = 2 * self._parameters * prefix / self._flops
        step = max(2 * self._parameters / self._bandwidth, 2 * self._parameters * k / self._flops)
        return prefill + work.NEW_TOKENS * step

    def told(self) -> str:
        peak = f"{self._flops / 1e9:.0f} GFLOP/s (bf16, 2048³)"
        return (
            f"prefill flops + {work.NEW_TOKENS} steps x the larger of weight bytes over "
            f"{self._bandwidth / 1e9:.1f} GB/s and flops over {peak}, {self._parameters / 1e6:.0f} M weights"
        )


def _seconds(work_: Any) -> float:
    begun = time.perf_counter()
    work_()
    return time.perf_counter() - begun
