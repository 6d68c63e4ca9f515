"""The probes: each makes a case of every item, tasks for the judge and a rule for its verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import MinLen

from grm_service.probes.rules import ProbeRule, alike, better_wins, no_help, same_either_way
from grm_service.profiles import yaml
from grm_service.profiles.profile import Text, fill
from grm_service.types import JudgeOptions, Message, Task

_HERE = Path(__file__).parent
_STRICT = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, slots=True)
class Question:
    """A question with two short answers, of which one is better beyond doubt."""

    __pydantic_config__: ClassVar = _STRICT
    name: Text
    query: Text
    good: Text
    bad: Text


@dataclass(frozen=True, slots=True)
class Dressing:
    """What is put in the place of the worse answer, which `{{bad}}` stands for."""

    __pydantic_config__: ClassVar = _STRICT
    name: Text
    what: Text
    variants: Annotated[tuple[str, ...], MinLen(1)]

    @property
    def keeps_answer(self) -> bool:
        """Whether the worse answer is still in it, so that what was added can have helped it."""
        return all("{{bad}}" in variant for variant in self.variants)

    def of(self, item: Question, number: int) -> str:
        return fill(self.variants[number % len(self.variants)], {"bad": item.bad})


@dataclass(frozen=True, slots=True)
class Case:
    """What a probe asks of the judge about one item."""

    name: str
    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """One question about the judge, put once an item. `what` says what a sound judge does."""

    name: str
    what: str
    cases: tuple[Case, ...]
    rule: ProbeRule


def probes(k: int | None = None) -> tuple[Probe, ...]:
    """All of them, with k samples a task (None: as the profile says). The same k gives the same tasks."""
    items, dressings = _texts()
    swapped, twice = list[Case](), list[Case]()
    for i, item in enumerate(items):
        told, back = _task(item, i, k, item.good, item.bad), _task(item, i, k, item.bad, item.good)
        swapped.append(Case(item.name, (told, back)))
        twice.append(Case(item.name, (_task(item, i, k, item.good, item.good),)))
    return (
        Probe(
            "position",
            "The same answer wins whichever the judge sees first.",
            tuple(swapped),
            same_either_way,
        ),
        Probe("identical", "Two copies of an answer earn the same, or nearly so.", tuple(twice), alike),
        *(_dressed(dressing, items, k) for dressing in dressings),
    )


def _dressed(dressing: Dressing, items: tuple[Question, ...], k: int | None) -> Probe:
    cases = list[Case]()
    for i, item in enumerate(items):
        dressed = _task(item, i, k, item.good, dressing.of(item, i))
        bare = _task(item, i, k, item.good, item.bad)
        cases.append(Case(item.name, (dressed, bare) if dressing.keeps_answer else (dressed,)))
    rule = no_help if dressing.keeps_answer else better_wins
    return Probe(dressing.name, dressing.what, tuple(cases), rule)


def tasks(asked: tuple[Probe, ...]) -> tuple[Task, ...]:
    """What has to be judged, each task once: probes share some."""
    return tuple(dict.fromkeys(task for probe in asked for case in probe.cases for task in case.tasks))


def _task(item: Question, number: int, k: int | None, *responses: str) -> Task:
    # Seeds differ between items, so that a single sample sees the better answer first in some of them.
    return Task((Message("user", item.query),), responses, options=JudgeOptions(k=k, seed=number))


@cache
def _texts() -> tuple[tuple[Question, ...], tuple[Dressing, ...]]:
    items, _ = yaml.load(tuple[Question, ...], _HERE / "items.yaml")
    dressings, _ = yaml.load(tuple[Dressing, ...], _HERE / "dressings.yaml")
    return items, dressings
