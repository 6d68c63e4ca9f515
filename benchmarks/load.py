"""What the service adds to its engine, how it takes several requests at once, and what memory it needs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import httpx

from benchmarks import servers, work
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
        "engine is OpenVINO's thread in this process, given exactly the prompts and parameters that the "
        "judge gave it. Memory is that of the service's processes together. Lag: how much later than "
        "asked a sleep of 5 ms in the service's event loop returned, at worst, while a request with k = "
        "8 was judged."
    )
    return [Table("The service under load, on the CPU", [*several, cost, *memory, lag], notes)]


async def _judged(client: httpx.AsyncClient, k: int, **more: object) -> int:
    reply = (await client.post("/v1/rewards", json=work.request(k, **more))).raise_for_status().json()
    return int(reply["usage"]["completion_tokens"])


async def _several(url: str) -> list[Row]:
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:

        async def four() -> int:
            return sum(await asyncio.gather(*(_judged(client, 8) for _ in range(4))))

        await _judged(client, 8)
        ones, fours = [], []
        for _ in range(_REPEATS):
            ones.append(await work.timed(lambda: _judged(client, 8)))
            fours.append(await work.timed(four))
    one_s, four_s = work.median([run[0] for run in ones]), work.median([run[0] for run in fours])
    speed = work.median([run[1] for run in fours]) / work.median([run[1] for run in ones])
    return [
        Row("four requests at once over one, wall time", f"{four_s / one_s:.2f} ×", "at most 3.2 ×",
            four_s / one_s <= 3.2, f"{four_s:.2f} · {one_s:.2f}"),
        Row("four requests at once over one, tokens/s", f"{speed:.2f} ×", "at least 1.3 ×", speed >= 1.3),
    ]  # fmt: skip


class _Recorder:
    """An engine that keeps what it was asked, so that it can be asked again without a judge."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.asked: list[tuple[Prompt, Params]] = []
        self.name, self.model, self.abilities = engine.name, engine.model, engine.abilities
        self.control_tokens, self.ready = engine.control_tokens, True

    async def start(self) -> None:
        """Started already."""

    async def close(self) -> None:
        """Not its own."""

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        self.asked.append((prompt, params))
        return await self._engine.complete(prompt, params)


async def _cost(url: str) -> Row:
    """The same work twice in turn: over HTTP, and straight into an engine of its own."""
    bare = work.bare_engine(4.0)
    await bare.start()
    recorder = _Recorder(bare)
    ratios, through, straight = [], [], []
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        for turn in range(_REPEATS + 1):
            body = work.request(8)
            task = Task(
                (Message("user", body["query"]),),
                tuple(body["responses"]),
                options=JudgeOptions(k=8, max_tokens=work.NEW_TOKENS),
            )
            recorder.asked.clear()
            await GenerativeRewardModel(recorder).judge(plan(task, work.profile()))
            begun = time.perf_counter()
            reply = (await client.post("/v1/rewards", json=body)).raise_for_status().json()
            service_s = time.perf_counter() - begun
            # Swap two words everywhere: the same sizes, and nothing of it in the bare engine's cache.
            asked = [(_swapped(prompt), params) for prompt, params in recorder.asked]
            engine_s, tokens = await _replayed(bare, asked)
            if turn:  # the first is a warm-up
                through.append(service_s)
                straight.append(engine_s)
                ratios.append((reply["usage"]["completion_tokens"] / service_s) / (tokens / engine_s))
    await bare.close()
    ratio = work.median(ratios)
    return Row(
        "HTTP + judge + record over the bare engine, k = 8, tokens/s", f"{ratio:.2f} ×", "at least 0.95 ×",
        ratio >= 0.95, f"{work.median(through):.2f} · {work.median(straight):.2f}",
    )  # fmt: skip


def _swapped(prompt: Prompt) -> Prompt:
    def swap(text: str) -> str:
        return text.replace("river", "\0").replace("stone", "river").replace("\0", "stone")

    turns = tuple(replace(m, content=swap(m.content)) for m in prompt.messages)
    return Prompt(turns, swap(prompt.continuation))


async def _replayed(engine: Engine, asked: list[tuple[Prompt, Params]]) -> tuple[float, int]:
    """First the critiques, then each one's closing as soon as it is done, as the judge goes about it."""
    critiques = [each for each in asked if each[1].regex is None]
    closings = {each[1].seed: each for each in asked if each[1].regex is not None}

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
    engine, _ = choose_engine("openvino", work.source(), None, "auto")
    await engine.start()
    body = work.request(8)
    task = Task(
        (Message("user", body["query"]),),
        tuple(body["responses"]),
        options=JudgeOptions(k=8, max_tokens=work.NEW_TOKENS),
    )
    judging = asyncio.create_task(GenerativeRewardModel(engine).judge(plan(task, work.profile())))
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
