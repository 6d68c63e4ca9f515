"""Tokens saved by the early-stopping rules, on real preference data (see ../shared/data/README.md)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from benchmarks import workload
from benchmarks.results import Row, Table
from grm_service.engines.choice import choose_engine
from grm_service.judging.early_stop import next_wave
from grm_service.judging.judge import GenerativeRewardModel
from grm_service.judging.plan import plan
from grm_service.judging.vote import vote
from grm_service.types import JudgeOptions, Message, Sample, StopRule, Task

_DATA = Path(__file__).parents[2] / "shared/data/dev.jsonl"
_K, _ITEMS, _MAX_CHARS = 32, 40, 2500
_RULES: tuple[StopRule, ...] = ("exact", "confident")


def tables() -> list[Table]:
    if not _DATA.exists():
        return [Table("Stopping rules", [Row("not measured", f"{_DATA.name} is not beside this checkout")])]
    return [asyncio.run(_table())]


async def _table() -> Table:
    engine, _ = choose_engine("openvino", workload.source(), None, "auto")
    await engine.start()
    judge, profile = GenerativeRewardModel(engine), workload.profile()
    saved: dict[StopRule, list[tuple[int, int]]] = {rule: [] for rule in _RULES}
    same: dict[StopRule, int] = dict.fromkeys(_RULES, 0)
    tasks = [_task(item) for item in _items()]
    for task in tasks:
        verdict = await judge.judge(plan(task, profile))
        for rule in _RULES:
            samples = _samples_used(rule, verdict.samples, len(task.responses))
            readable = [sample.scores for sample in samples if sample.scores is not None]
            saved[rule].append((_tokens(samples), _tokens(verdict.samples)))
            same[rule] += vote(readable).best == verdict.vote.best
    await engine.close()
    rows = [
        row
        for rule in _RULES
        for row in (
            Row(f"`stop: {rule}`, tokens saved", f"{1 - _ratio(saved[rule]):.1%}"),
            Row(
                f"`stop: {rule}`, unchanged winners",
                f"{same[rule]} of {len(tasks)}",
                "all" if rule == "exact" else "at least 95 of 100",
                same[rule] == len(tasks) if rule == "exact" else same[rule] >= 0.95 * len(tasks),
            ),
        )
    ]
    notes = (
        f"The first {len(tasks)} items of shared/data/dev.jsonl with at most {_MAX_CHARS} characters, "
        f"SmolLM2-135M untrained, k = {_K}, {workload.NEW_TOKENS} new tokens. All {_K} samples were "
        "generated once and the rules applied to them: a rule uses the first samples of the same plan "
        "(tests/judging/test_judge.py). An untrained judge's scores are close to chance, so a lead is rarely "
        "safe early."
    )
    return Table("Stopping rules", rows, notes)


def _items() -> list[dict[str, Any]]:
    items = [json.loads(line) for line in _DATA.read_text(encoding="utf-8").splitlines()]
    short = [i for i in items if len(str(i["messages"])) + len(str(i["responses"])) <= _MAX_CHARS]
    return short[:_ITEMS]


def _task(item: dict[str, Any]) -> Task:
    turns = tuple(Message(turn["role"], turn["content"]) for turn in item["messages"])
    return Task(turns, tuple(item["responses"]), options=JudgeOptions(k=_K, max_tokens=workload.NEW_TOKENS))


def _samples_used(rule: StopRule, samples: tuple[Sample, ...], n: int) -> tuple[Sample, ...]:
    used = 0
    scale = workload.profile().scale
    while wave := next_wave(rule, [s.scores for s in samples[:used]], len(samples), n, scale):
        used += wave
    return samples[:used]


def _tokens(samples: tuple[Sample, ...]) -> int:
    return sum(sample.usage.completion_tokens for sample in samples)


def _ratio(pairs: list[tuple[int, int]]) -> float:
    return sum(part for part, _ in pairs) / sum(whole for _, whole in pairs)
