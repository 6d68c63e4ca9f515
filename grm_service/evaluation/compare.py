"""Runs over the same items, side by side: paired, so that what is hard for both does not blur it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean

from grm_service.errors import BadTask
from grm_service.evaluation import outcomes, scaling, stats
from grm_service.evaluation.cost import tokens
from grm_service.evaluation.outcomes import Credit
from grm_service.evaluation.run_folder import EvalSetup, ItemResult, JudgeKind
from grm_service.evaluation.stats import Interval
from grm_service.evaluation.votes import SERVED, VoteKind


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """The finished items of a folder, and how their samples are voted here."""

    name: str
    setup: EvalSetup
    items: Sequence[ItemResult]
    vote: VoteKind = SERVED

    def credit(self, item: ItemResult) -> Credit:
        """Of one of its items with all its samples."""
        return outcomes.of(item, self.vote)


@dataclass(frozen=True, slots=True)
class Difference:
    """B less A over `n` items: strict accuracy and with shared ties, both with paired bootstrap intervals.

    `better` items are strictly right in B only, `worse` in A only.
    """

    n: int
    a: float
    b: float
    strict: float
    strict_interval: Interval
    half: float
    half_interval: Interval
    better: int
    worse: int


@dataclass(frozen=True, slots=True)
class Flip:
    """An item that only one of both gets strictly right, with the names of both verdicts in the trail."""

    id: str
    source: str
    right: str
    a_verdict: str | None
    b_verdict: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """`settings` names what differs between the runs, as (A, B); `only_a`, `only_b` count items without a
    partner; `tokens` are completion tokens an item, (A, B), over the common ones.
    """

    a: str
    b: str
    settings: Mapping[str, tuple[object, object]]
    only_a: int
    only_b: int
    overall: Difference
    by_source: Mapping[str, Difference]
    tokens: tuple[float, float]
    flipped: tuple[Flip, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """What k samples of a run earn, ties shared, and write: completion tokens an item.

    `difference` is that of all samples of the first run less this, with a paired interval.
    """

    k: int
    tokens: float
    half: float
    half_interval: Interval
    difference: float
    difference_interval: Interval


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy against tokens of one run, over `n` items that all runs have. `prompt_tokens` an item are
    those of all samples, of which `cached_tokens` needed no prefill.
    """

    run: str
    judge: JudgeKind
    n: int
    prompt_tokens: float
    cached_tokens: float
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Comparisons:
    """The others against the first run, each apart, and all of them against tokens."""

    curves: tuple[Curve, ...]
    against_first: tuple[Comparison, ...]


def compare_all(runs: Sequence[ComparedRun]) -> Comparisons:
    """Of two or more. Raises BadTask as `compare` does, and where no item is in all of them."""
    return Comparisons(curves(runs), tuple(compare(runs[0], other) for other in runs[1:]))


def compare(a: ComparedRun, b: ComparedRun) -> Comparison:
    """Raises BadTask where the runs share no item, or call one by the same name that had other texts."""
    pairs = [(one, other) for one, other in _common((a, b)) if one.correct]
    if not pairs:
        raise BadTask(f"{a.name} and {b.name} have no item in common with a right response")
    ids = [{item.id for item in run.items} for run in (a, b)]
    found = [(a.credit(one), b.credit(other)) for one, other in pairs]
    sources = sorted({one.source for one, _ in pairs})
    return Comparison(
        a=a.name,
        b=b.name,
        settings=_differing(a, b, pairs),
        only_a=len(ids[0] - ids[1]),
        only_b=len(ids[1] - ids[0]),
        overall=_difference(pairs, found),
        by_source={name: _difference(*_of_source(name, pairs, found)) for name in sources},
        tokens=(
            fmean(one.completion_tokens for one, _ in pairs),
            fmean(other.completion_tokens for _, other in pairs),
        ),
        flipped=tuple(_flips(pairs, found)),
    )


def curves(runs: Sequence[ComparedRun]) -> tuple[Curve, ...]:
    """Over the items that all have, one point a power of two and one for all samples.

    Fewer samples are known for the served vote only; another one has a single point.
    """
    common = [items for items in _common(runs) if items[0].correct]
    if not common:
        raise BadTask("no item with a right response is in all runs")
    first = [runs[0].credit(items[0]).half for items in common]
    groups = [items[0].group for items in common]
    return tuple(
        _curve(run, items, first, groups) for run, items in zip(runs, zip(*common, strict=True), strict=True)
    )


def _curve(
    run: ComparedRun, items: Sequence[ItemResult], first: Sequence[float], groups: Sequence[str]
) -> Curve:
    k, points = run.setup.k, list[Point]()
    for j in sorted({k, *(2**i for i in range(k.bit_length()) if run.vote == SERVED)}):
        half = [(run.credit(item) if j == k else scaling.expect(item, j, k)[0]).half for item in items]
        less = [a - b for a, b in zip(first, half, strict=True)]
        point = Point(
            k=j,
            tokens=fmean(tokens(item, j, k) for item in items),
            half=fmean(half),
            half_interval=stats.bootstrap(half, groups),
            difference=fmean(less),
            difference_interval=stats.bootstrap(less, groups),
        )
        points.append(point)
    return Curve(
        run=run.name,
        judge=run.setup.judge,
        n=len(items),
        prompt_tokens=fmean(item.prompt_tokens for item in items),
        cached_tokens=fmean(item.cached_tokens for item in items),
        points=tuple(points),
    )


_Pairs = Sequence[tuple[ItemResult, ...]]
_Credits = Sequence[tuple[Credit, Credit]]


def _common(runs: Sequence[ComparedRun]) -> list[tuple[ItemResult, ...]]:
    """The items that all runs have, side by side. Raises BadTask where one had other texts somewhere."""
    by_id = [{item.id: item for item in run.items} for run in runs]
    ids = sorted(set.intersection(*(set(named) for named in by_id)))
    found = [tuple(named[each] for named in by_id) for each in ids]
    for items in found:
        if len({item.digest for item in items}) > 1:
            raise BadTask(f"{items[0].id} had other texts in another run: these are not the same data")
    return found


def _of_source(name: str, pairs: _Pairs, found: _Credits) -> tuple[_Pairs, _Credits]:
    at = [i for i, (one, _) in enumerate(pairs) if one.source == name]
    return [pairs[i] for i in at], [found[i] for i in at]


def _difference(pairs: _Pairs, found: _Credits) -> Difference:
    groups = [one.group for one, _ in pairs]
    strict = [b.strict - a.strict for a, b in found]
    half = [b.half - a.half for a, b in found]
    return Difference(
        n=len(pairs),
        a=fmean(a.strict for a, _ in found),
        b=fmean(b.strict for _, b in found),
        strict=fmean(strict),
        strict_interval=stats.bootstrap(strict, groups),
        half=fmean(half),
        half_interval=stats.bootstrap(half, groups),
        better=sum(each > 0 for each in strict),
        worse=sum(each < 0 for each in strict),
    )


def _flips(pairs: _Pairs, found: _Credits) -> list[Flip]:
    return [
        Flip(one.id, one.source, "a" if a.strict > b.strict else "b", one.verdict, other.verdict)
        for (one, other), (a, b) in zip(pairs, found, strict=True)
        if a.strict != b.strict
    ]


def _differing(a: ComparedRun, b: ComparedRun, pairs: _Pairs) -> dict[str, tuple[object, object]]:
    found: dict[str, tuple[object, object]] = {
        field.name: (getattr(a.setup, field.name), getattr(b.setup, field.name))
        for field in fields(EvalSetup)
        if getattr(a.setup, field.name) != getattr(b.setup, field.name)
    }
    if a.vote != b.vote:
        found["vote"] = (a.vote, b.vote)
    models = tuple({each.model for each in some if each.model} for some in zip(*pairs, strict=True))
    if models[0] != models[1]:
        found["model"] = (", ".join(sorted(models[0])), ", ".join(sorted(models[1])))
    return found
