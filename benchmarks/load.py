"""The service's overhead over its engine, its concurrency, memory and event loop lag."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import httpx

from benchmarks import servers, workload
from benchmarks.results import Row, Table
from grm_service.engines.base import Engine
from grm_service.engines.choice import choose_engine
from grm_service.judging.judge import GenerativeRewardModel
from grm_service.judging.plan import plan
from grm_service.types import Completion, JudgeOptions, Message, Params, Prompt, Task

_REPEATS = 5


def tables() -> list[Table]:
    with servers.grm() as server:
        several = asyncio.run(_several(server.url))
        cost = asyncio.run(_cost(server.url))
        memory = asyncio.run(_memory(server))
    lag = asyncio.run(_lag())
    notes = (
        "Four requests at once are four different pairs of about 1,000 prompt tokens, k = 8. The bare "
        "engine is OpenVINO's thread in this process, with exactly the judge's prompts and parameters. "
        "Memory is that of all processes of the service. Lag: the largest delay of a sleep of 5 ms in the "
        "service's event loop while a request with k = 8 was judged."
    )
    return [Table("The service under load, on the CPU", [*several, cost, *memory, lag], notes)]


async def _judged(client: httpx.AsyncClient, k: int, **more: object) -> int:
    reply = (await client.post("/v1/rewards", json=workload.request(k, **more))).raise_for_status().json()
    return int(reply["usage"]["completion_tokens"])


async def _several(url: str) -> list[Row]:
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:

        async def four() -> int:
            return sum(await asyncio.gather(*(_judged(client, 8) for _ in range(4))))

        await _judged(client, 8)
        ones, fours = [], []
        for _ in range(_REPEATS):
            ones.append(await workload.timed(lambda: _judged(client, 8)))
            fours.append(await workload.timed(four))
    one_s, four_s = workload.median([run[0] for run in ones]), workload.median([run[0] for run in fours])
    speed = workload.median([run[1] for run in fours]) / workload.median([run[1] for run in ones])
    return [
        Row("four requests at once over one, wall time", f"{four_s / one_s:.2f} ×", "at most 3.2 ×",
            four_s / one_s <= 3.2, f"{four_s:.2f} · {one_s:.2f}"),
        Row("four requests at once over one, tokens/s", f"{speed:.2f} ×", "at least 1.3 ×", speed >= 1.3),
    ]  # fmt: skip


class _Recorder:
    """An engine that records its requests, so that they can be repeated without the judge."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.requests: list[tuple[Prompt, Params]] = []
        self.name, self.model, self.abilities = engine.name, engine.model, engine.abilities
        self.control_tokens, self.ready = engine.control_tokens, True

    async def start(self) -> None:
        """The inner engine is started already."""

    async def close(self) -> None:
        """The inner engine is closed by its owner."""

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        self.requests.append((prompt, params))
        return await self._engine.complete(prompt, params)


async def _cost(url: str) -> Row:
    """Compare the same requests over HTTP and on the bare engine, alternating."""
    bare = workload.bare_engine(4.0)
    await bare.start()
    recorder = _Recorder(bare)
    ratios, through, straight = [], [], []
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        for turn in range(_REPEATS + 1):
            body = workload.request(8)
            task = Task(
                (Message("user", body["query"]),),
                tuple(body["responses"]),
                options=JudgeOptions(k=8, max_tokens=workload.NEW_TOKENS),
            )
            recorder.requests.clear()
            await GenerativeRewardModel(recorder).judge(plan(task, workload.profile()))
            begun = time.perf_counter()
            reply = (await client.post("/v1/rewards", json=body)).raise_for_status().json()
            service_s = time.perf_counter() - begun
            # Swapping two words keeps the sizes, but nothing is in the bare engine's cache.
            requests = [(_swapped(prompt), params) for prompt, params in recorder.requests]
            engine_s, tokens = await _replay(bare, requests)
            if turn:  # the first is a warm-up
                through.append(service_s)
                straight.append(engine_s)
                ratios.append((reply["usage"]["completion_tokens"] / service_s) / (tokens / engine_s))
    await bare.close()
    ratio = workload.median(ratios)
    return Row(
        "HTTP + judge + record over the bare engine, k = 8, tokens/s", f"{ratio:.2f} ×", "at least 0.95 ×",
        ratio >= 0.95, f"{workload.median(through):.2f} · {workload.median(straight):.2f}",
    )  # fmt: skip


def _swapped(prompt: Prompt) -> Prompt:
    def swap(text: str) -> str:
        return text.replace("river", "\0").replace("stone", "river").replace("\0", "stone")

    turns = tuple(replace(m, content=swap(m.content)) for m in prompt.messages)
    return Prompt(turns, swap(prompt.continuation))


async def _replay(engine: Engine, requests: list[tuple[Prompt, Params]]) -> tuple[float, int]:
    """Generate the critiques and, as soon as each one is done, its closing, as the judge does."""
    critiques = [each for each in requests if each[1].regex is None]
    closings = {each[1].seed: each for each in requests if each[1].regex is not None}

    async def one(prompt: Prompt, params: Params) -> int:
        tokens = (await engine.complete(prompt, params)).usage.completion_tokens
        if params.seed in closings:
            tokens += (await engine.complete(*closings[params.seed])).usage.completion_tokens
        return tokens

    begun = time.perf_counter()
    tokens = sum(await asyncio.gather(*(one(*each) for each in critiques)))
    return time.perf_counter() - begun, tokens


async def _memory(server: servers.Server) -> list[Row]:
    async with httpx.AsyncClient(base_url=server.url, timeout=600) as client:
        peak = await _peak(server, asyncio.gather(*(_judged(client, 16) for _ in range(4))))
        sizes = []
        for requests in (300, 500):
            for _ in range(requests // 10):
                await asyncio.gather(*(_judged(client, 1, max_tokens=8) for _ in range(10)))
            sizes.append(server.rss_gb())
    growth = (sizes[1] - sizes[0]) * 1024
    return [
        Row("peak memory, four requests with k = 16 in flight", f"{peak:.2f} GiB"),
        Row("growth over 500 requests, after 300", f"{growth:+.0f} MiB", "none (below 50 MiB)", growth < 50),
    ]


async def _peak(server: servers.Server, running: asyncio.Future[list[int]]) -> float:
    peak = 0.0
    while not running.done():
        peak = max(peak, server.rss_gb())
        await asyncio.sleep(0.05)
    await running
    return peak


async def _lag() -> Row:
    engine, _ = choose_engine("openvino", workload.source(), None, "auto")
    await engine.start()
    body = workload.request(8)
    task = Task(
        (Message("user", body["query"]),),
        tuple(body["responses"]),
        options=JudgeOptions(k=8, max_tokens=workload.NEW_TOKENS),
    )
    judging = asyncio.create_task(GenerativeRewardModel(engine).judge(plan(task, workload.profile())))
    worst = 0.0
    while not judging.done():
        begun = time.perf_counter()
        await asyncio.sleep(0.005)
        worst = max(worst, time.perf_counter() - begun - 0.005)
    await judging
    await engine.close()
    return Row(
        "worst lag of the event loop while generating", f"{worst * 1000:.0f} ms", "below 20 ms", worst < 0.02
    )
