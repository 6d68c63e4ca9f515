"""One step of an RL trainer through the service, compared with the engine alone."""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from benchmarks import servers, workload
from benchmarks.paced import PacedEngine
from benchmarks.results import Row, Table
from grm_service.client import AsyncClient, NoVerdict
from grm_service.engines.scripted import ScriptedEngine
from grm_service.judging.judge import GenerativeRewardModel
from grm_service.judging.plan import plan
from grm_service.profiles.catalog import load_profile
from grm_service.profiles.profile import Profile
from grm_service.settings import Settings
from grm_service.types import JudgeOptions, Message, Params, Task

_PROMPTS, _RESPONSES, _K = 128, 16, 4
_SAMPLE_S, _MAX_TOKENS = 0.02, 512
_LANES = {1: ("at least 0.9 ×", "at least 0.8 ×"), 4: (None, None)}
_REPEATS = 3
_GROUP_COUNTS = re.compile(r'^grm_rendezvous_total\{outcome="(\w+)",route="slime"\} (\d+)', re.MULTILINE)
Step = list[tuple[str, tuple[str, ...]]]


def tables() -> list[Table]:
    with tempfile.TemporaryDirectory() as folder:
        path = _write_profile(Path(folder))
        rows = [row for lanes in _LANES for row in asyncio.run(_rows(path, lanes))]
    notes = (
        f"{_PROMPTS} prompts of {_RESPONSES} responses (120 words each), k = {_K}, new texts every time, "
        f"medians of {_REPEATS} alternating runs. The engine is scripted and takes {_SAMPLE_S * 1000:.0f} ms "
        "a sample; the faster one generates several at a time. Alone, it gets the same prompts with the same "
        f"limit on concurrent samples (GRM_MAX_SAMPLES, {Settings().max_samples}). The profile puts "
        f"{_RESPONSES} responses into one prompt (`most_responses`; 8 by default), so both runs have "
        f"{_PROMPTS * _K} samples. In groups: grm_service.client, one request a prompt. One by one: aiohttp, "
        f"{_PROMPTS * _RESPONSES} concurrent connections to `/slime?group={_RESPONSES}`, each with one "
        "response. Client, service and audit trail share the machine. All calls arrive in one burst, so no "
        "group is complete until nearly all calls have been read: the faster the engine, the larger the "
        "share of that time."
    )
    return [Table("A trainer's step in groups", rows, notes)]


def _write_profile(folder: Path) -> Path:
    """Write the profile with all responses in one prompt, and max_tokens for whole critiques."""
    source = Path(__file__).parents[1] / "models" / f"{Settings().profile}.yaml"
    text = re.sub(r"max_tokens: \d+", f"max_tokens: {_MAX_TOKENS}", source.read_text(encoding="utf-8"))
    path = folder / source.name
    path.write_text(f"{text}\nmost_responses: {_RESPONSES}\n", encoding="utf-8")
    return path


async def _rows(path: Path, lanes: int) -> list[Row]:
    command = [sys.executable, "-m", "benchmarks.paced", "{port}", str(_SAMPLE_S), str(lanes)]
    alone, grouped, single = [], [], []
    with servers.grm(command, GRM_PROFILE=str(path)) as server:
        for _ in range(_REPEATS):
            step = _step()
            alone.append(await _alone(load_profile(path), step, lanes))
            grouped.append(await _in_groups(server.url, step))
            single.append(await _one_by_one(server.url, _step()))
        complete, all_groups = await _count_groups(server.url)
    rate = f"{lanes / _SAMPLE_S:.0f} samples/s"
    for_groups, for_singles = _LANES[lanes]
    return [
        _over_alone(f"in groups, over the engine alone ({rate})", alone, grouped, for_groups),
        _over_alone(f"one by one, over the engine alone ({rate})", alone, single, for_singles),
        Row(f"one by one, groups judged together ({rate})", f"{complete} of {all_groups}", "all",
            complete == all_groups == _PROMPTS * _REPEATS),
    ]  # fmt: skip


def _over_alone(name: str, alone: list[float], through: list[float], target: str | None) -> Row:
    engine_s, seconds = workload.median(alone), workload.median(through)
    ratio = engine_s / seconds
    met = None if target is None else ratio >= float(target.split()[2])
    return Row(name, f"{ratio:.2f} ×", target, met, f"{seconds:.2f} · {engine_s:.2f}")


def _step() -> Step:
    """Return new prompts and responses, which no cache holds."""
    return [
        (workload.words(60), tuple(workload.words(120) for _ in range(_RESPONSES))) for _ in range(_PROMPTS)
    ]


async def _alone(profile: Profile, step: Step, lanes: int) -> float:
    scripted = ScriptedEngine()
    for query, responses in step:
        await GenerativeRewardModel(scripted).judge(
            plan(Task((Message("user", query),), responses, options=JudgeOptions(k=_K)), profile)
        )
    engine, limit = PacedEngine(_SAMPLE_S, lanes), asyncio.Semaphore(Settings().max_samples)
    prompts = list(scripted.prompts)
    if len(prompts) != _PROMPTS * _K:
        raise RuntimeError(
            f"{len(prompts)} completions for {_PROMPTS * _K} samples: critiques were truncated"
        )

    async def one(seed: int) -> None:
        async with limit:
            await engine.complete(prompts[seed], Params(_MAX_TOKENS, 0.5, 1.0, seed))

    begun = time.perf_counter()
    await asyncio.gather(*map(one, range(len(prompts))))
    return time.perf_counter() - begun


async def _in_groups(url: str, step: Step) -> float:
    async with AsyncClient(url) as client:
        begun = time.perf_counter()
        items = [{"query": query, "responses": responses} for query, responses in step]
        for verdict in await client.batch(items, k=_K, detail="rewards"):
            if isinstance(verdict, NoVerdict):
                raise verdict
        return time.perf_counter() - begun


async def _one_by_one(url: str, step: Step) -> float:
    address = f"{url}/slime?k={_K}&group={_RESPONSES}&window_s=60"
    connections = aiohttp.TCPConnector(limit=_PROMPTS * _RESPONSES)
    async with aiohttp.ClientSession(connector=connections) as session:

        async def one(query: str, response: str) -> float:
            body = {"prompt": query, "response": response, "label": None}
            async with session.post(address, json=body, raise_for_status=True) as reply:
                return float(await reply.json())

        begun = time.perf_counter()
        await asyncio.gather(*(one(query, response) for query, responses in step for response in responses))
        return time.perf_counter() - begun


async def _count_groups(url: str) -> tuple[int, int]:
    """Return the number of groups that were complete when judged, and of all judged groups."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as reply:
        counts = {outcome: int(groups) for outcome, groups in _GROUP_COUNTS.findall(await reply.text())}
    return counts.get("complete", 0), sum(counts.values())
