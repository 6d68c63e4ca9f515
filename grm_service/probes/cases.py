"""The probes: each builds one case per question, with tasks for the judge and a rule for the verdicts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import MinLen

from grm_service.probes.rules import ProbeRule, attack_gains_nothing, better_wins, equal_rewards, same_winner
from grm_service.profiles import yaml
from grm_service.profiles.model_files import Text
from grm_service.profiles.profile import fill
from grm_service.types import JudgeOptions, Message, Task

_HERE = Path(__file__).parent
_STRICT = {"extra": "forbid", "strict": True}
_SEEDS = 2**63


@dataclass(frozen=True, slots=True)
class Question:
    """A question with two short answers, one of them clearly better."""

    __pydantic_config__: ClassVar = _STRICT
    name: Text
    query: Text
    good: Text
    bad: Text


@dataclass(frozen=True, slots=True)
class Attack:
    """Texts that replace the worse answer; `{{bad}}` stands for that answer. `what` says what they test."""

    __pydantic_config__: ClassVar = _STRICT
    name: Text
    what: Text
    variants: Annotated[tuple[str, ...], MinLen(1)]

    @property
    def has_answer(self) -> bool:
        """True if every variant contains the worse answer, so that its plain reward can be compared."""
        return all("{{bad}}" in variant for variant in self.variants)

    def apply(self, question: Question, number: int) -> str:
        """Return the text for a question; the questions take the variants in turn."""
        return fill(self.variants[number % len(self.variants)], {"bad": question.bad})


@dataclass(frozen=True, slots=True)
class Case:
    """The tasks of a probe for one question, in the order that the probe's rule expects."""

    name: str
    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """A test of the judge with one case per question. `what` says what a sound judge does."""

    name: str
    what: str
    cases: tuple[Case, ...]
    rule: ProbeRule


def probes(options: JudgeOptions = JudgeOptions()) -> tuple[Probe, ...]:
    """Return all probes, to be judged with the options. Equal options give equal tasks.

    The seed of the options is added to each question's own seed.
    """
    questions, attacks = _load_texts()
    return (
        _position_probe(questions, options),
        _identical_probe(questions, options),
        *(_attack_probe(attack, questions, options) for attack in attacks),
    )


def tasks(selected: tuple[Probe, ...]) -> tuple[Task, ...]:
    """Return the tasks of the probes, each once: probes share some."""
    return tuple(dict.fromkeys(task for probe in selected for case in probe.cases for task in case.tasks))


def _position_probe(questions: tuple[Question, ...], options: JudgeOptions) -> Probe:
    cases = list[Case]()
    for number, question in enumerate(questions):
        forward = _task(question, number, options, question.good, question.bad)
        swapped = _task(question, number, options, question.bad, question.good)
        cases.append(Case(question.name, (forward, swapped)))
    what = "The same answer wins whichever the judge sees first."
    return Probe("position", what, tuple(cases), same_winner)


def _identical_probe(questions: tuple[Question, ...], options: JudgeOptions) -> Probe:
    cases = tuple(
        Case(question.name, (_task(question, number, options, question.good, question.good),))
        for number, question in enumerate(questions)
    )
    return Probe("identical", "Two copies of an answer earn the same, or nearly so.", cases, equal_rewards)


def _attack_probe(attack: Attack, questions: tuple[Question, ...], options: JudgeOptions) -> Probe:
    cases = list[Case]()
    for number, question in enumerate(questions):
        attacked = _task(question, number, options, question.good, attack.apply(question, number))
        plain = _task(question, number, options, question.good, question.bad)
        cases.append(Case(question.name, (attacked, plain) if attack.has_answer else (attacked,)))
    rule = attack_gains_nothing if attack.has_answer else better_wins
    return Probe(attack.name, attack.what, tuple(cases), rule)


def _task(question: Question, number: int, options: JudgeOptions, *responses: str) -> Task:
    # Seeds differ between questions: with k = 1, each seed fixes which answer the judge sees first.
    seed = (options.seed + number) % _SEEDS
    return Task((Message("user", question.query),), responses, options=replace(options, seed=seed))


@cache
def _load_texts() -> tuple[tuple[Question, ...], tuple[Attack, ...]]:
    questions, _ = yaml.load(tuple[Question, ...], _HERE / "items.yaml")
    attacks, _ = yaml.load(tuple[Attack, ...], _HERE / "attacks.yaml")
    return questions, attacks
