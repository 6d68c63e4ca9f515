"""Whether one run reproduces what another one found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from grm_service.errors import BadTask
from grm_service.evaluation.report import EvalReport
from grm_service.evaluation.stats import Interval


@dataclass(frozen=True, slots=True)
class Check:
    """A share of the one report, and that of the other with the interval in which it should lie."""

    what: str
    now: float
    before: float
    interval: Interval

    @property
    def held(self) -> bool:
        return self.interval.low <= self.now <= self.interval.high


def check(now: EvalReport, before: EvalReport) -> list[Check]:
    """Accuracy over all, at every k and by source. Raises BadTask where they measured different things."""
    for what, one, other in (
        ("judges", now.setup.judge, before.setup.judge),
        ("k", now.setup.k, before.setup.k),
        ("numbers of items", now.items, before.items),
        ("models", now.model, before.model),
    ):
        if one != other:
            raise BadTask(f"these are reports of different {what}, {one} and {other}")
    return list(_checks(now, before))


def _checks(now: EvalReport, before: EvalReport) -> Iterator[Check]:
    if now.overall is None or before.overall is None:
        raise BadTask("a report has no item with a right response")
    yield Check("strictly right", now.overall.strict, before.overall.strict, before.overall.strict_interval)
    steps = {step.k: step for step in now.scaling}
    for step in before.scaling:
        if step.k in steps:
            yield Check(f"k = {step.k}, ties shared", steps[step.k].half, step.half, step.half_interval)
    if now.by_source.keys() != before.by_source.keys():
        raise BadTask("these are reports of different data: their sources differ")
    for name, source in before.by_source.items():
        # Wilson's interval has a width even where all or none were right.
        yield Check(name, now.by_source[name].strict, source.strict, source.strict_interval)
