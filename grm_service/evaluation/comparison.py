"""Paired comparison of runs over the same items, and of a report with a committed one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean

from grm_service.errors import BadTask
from grm_service.evaluation import outcomes, stats
from grm_service.evaluation.cost import completion_tokens
from grm_service.evaluation.outcomes import SERVED_VOTE, Credit, VoteKind
from grm_service.evaluation.report import EvalReport
from grm_service.evaluation.run_folder import EvalSetup, ItemResult, JudgeKind
from grm_service.evaluation.scaling import error_codes, expected_credit, subsampling_obstacle
from grm_service.evaluation.stats import Interval


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """The finished items of a run, and the vote to apply to their samples."""

    name: str
    setup: EvalSetup
    items: Sequence[ItemResult]
    vote: VoteKind = SERVED_VOTE

    def credit(self, item: ItemResult) -> Credit:
        """Return the credit for the vote of all samples of an item."""
        return outcomes.item_credit(item, self.vote, self.setup.meta_share)

    def ks(self) -> list[int]:
        """Return the values of k with a known accuracy, ascending: powers of two and the run's k.

        Only the run's k is known for a vote other than the served one, or if samples were stopped early.
        """
        k = self.setup.k
        obstacle = subsampling_obstacle(self.setup.stop, error_codes(self.items))
        if self.vote != SERVED_VOTE or obstacle is not None:
            return [k]
        return sorted({k, *(2**i for i in range(k.bit_length()))})


@dataclass(frozen=True, slots=True)
class Difference:
    """B minus A over `n` items, in `strict` and `half` accuracy, with paired bootstrap intervals.

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
    """An item that only one of the runs has strictly right, with the ids of both verdicts."""

    id: str
    source: str
    right: str
    a_verdict: str | None
    b_verdict: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Run B against run A.

    `settings` holds the settings that differ, as (A, B); `only_a` and `only_b` count the items that one run
    lacks; `tokens` are completion tokens per common item, (A, B).
    """

    a: str
    b: str
    settings: Mapping[str, tuple[object, object]]
    only_a: int
    only_b: int
    overall: Difference
    by_source: Mapping[str, Difference]
    tokens: tuple[float | None, float | None]
    flipped: tuple[Flip, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """Accuracy (ties shared) and completion tokens per item of k samples of a run.

    `difference` is the accuracy of the first run's full k minus this one, with a paired interval.
    """

    k: int
    tokens: float | None
    half: float
    half_interval: Interval
    difference: float
    difference_interval: Interval


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy against tokens of one run, over the `n` items that all runs have.

    `prompt_tokens` are per item and for all samples; `cached_tokens` of them needed no prefill.
    """

    run: str
    judge: JudgeKind
    n: int
    prompt_tokens: float | None
    cached_tokens: float | None
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Comparisons:
    """Every run against the first one, and the accuracy of all runs against tokens."""

    curves: tuple[Curve, ...]
    against_first: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """A figure of a report, the committed value, and the committed interval that should contain it."""

    figure: str
    value: float
    committed: float
    interval: Interval

    @property
    def reproduced(self) -> bool:
        """True if the value is within the interval."""
        return self.interval.low <= self.value <= self.interval.high


def compare_runs(runs: Sequence[ComparedRun]) -> Comparisons:
    """Compare two or more runs. Raises BadTask as `compare_pair`, and if no item is in all runs."""
    return Comparisons(token_curves(runs), tuple(compare_pair(runs[0], other) for other in runs[1:]))


def compare_pair(a: ComparedRun, b: ComparedRun) -> Comparison:
    """Compare two runs. Raises BadTask if they share no item, or if an item's texts differ between them."""
    pairs = [(one, other) for one, other in _common_items((a, b)) if one.correct]
    if not pairs:
        raise BadTask(f"{a.name} and {b.name} have no item in common with a right response")
    ids = [{item.id for item in run.items} for run in (a, b)]
    credits_ = [(a.credit(one), b.credit(other)) for one, other in pairs]
    sources = sorted({one.source for one, _ in pairs})
    return Comparison(
        a=a.name,
        b=b.name,
        settings=_differing_settings(a, b, pairs),
        only_a=len(ids[0] - ids[1]),
        only_b=len(ids[1] - ids[0]),
        overall=_difference(pairs, credits_),
        by_source={source: _difference(*_of_source(source, pairs, credits_)) for source in sources},
        tokens=(
            stats.mean_known(one.completion_tokens for one, _ in pairs),
            stats.mean_known(other.completion_tokens for _, other in pairs),
        ),
        flipped=tuple(_flips(pairs, credits_)),
    )


def token_curves(runs: Sequence[ComparedRun]) -> tuple[Curve, ...]:
    """Return a curve per run over the items that all runs have; see ComparedRun.ks."""
    common = [items for items in _common_items(runs) if items[0].correct]
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
    for j in run.ks():
        half = [(run.credit(item) if j == k else expected_credit(item, j, k)[0]).half for item in items]
        difference = [a - b for a, b in zip(first, half, strict=True)]
        point = Point(
            k=j,
            tokens=stats.mean_known(completion_tokens(item, j, k) for item in items),
            half=fmean(half),
            half_interval=stats.bootstrap(half, groups),
            difference=fmean(difference),
            difference_interval=stats.bootstrap(difference, groups),
        )
        points.append(point)
    return Curve(
        run=run.name,
        judge=run.setup.judge,
        n=len(items),
        prompt_tokens=stats.mean_known(item.prompt_tokens for item in items),
        cached_tokens=stats.mean_known(item.cached_tokens for item in items),
        points=tuple(points),
    )


_Pairs = Sequence[tuple[ItemResult, ...]]
_Credits = Sequence[tuple[Credit, Credit]]


def _common_items(runs: Sequence[ComparedRun]) -> list[tuple[ItemResult, ...]]:
    """Return each item that all runs have, once per run. Raises BadTask if its texts differ."""
    by_id = [{item.id: item for item in run.items} for run in runs]
    ids = sorted(set.intersection(*(set(items) for items in by_id)))
    common = [tuple(items[id_] for items in by_id) for id_ in ids]
    for items in common:
        if len({item.digest for item in items}) > 1:
            raise BadTask(f"{items[0].id} had other texts in another run: these are not the same data")
    return common


def _of_source(source: str, pairs: _Pairs, credits_: _Credits) -> tuple[_Pairs, _Credits]:
    indices = [i for i, (one, _) in enumerate(pairs) if one.source == source]
    return [pairs[i] for i in indices], [credits_[i] for i in indices]


def _difference(pairs: _Pairs, credits_: _Credits) -> Difference:
    groups = [one.group for one, _ in pairs]
    strict = [b.strict - a.strict for a, b in credits_]
    half = [b.half - a.half for a, b in credits_]
    return Difference(
        n=len(pairs),
        a=fmean(a.strict for a, _ in credits_),
        b=fmean(b.strict for _, b in credits_),
        strict=fmean(strict),
        strict_interval=stats.bootstrap(strict, groups),
        half=fmean(half),
        half_interval=stats.bootstrap(half, groups),
        better=sum(each > 0 for each in strict),
        worse=sum(each < 0 for each in strict),
    )


def _flips(pairs: _Pairs, credits_: _Credits) -> list[Flip]:
    return [
        Flip(one.id, one.source, "a" if a.strict > b.strict else "b", one.verdict, other.verdict)
        for (one, other), (a, b) in zip(pairs, credits_, strict=True)
        if a.strict != b.strict
    ]


def _differing_settings(a: ComparedRun, b: ComparedRun, pairs: _Pairs) -> dict[str, tuple[object, object]]:
    differing: dict[str, tuple[object, object]] = {
        field.name: (getattr(a.setup, field.name), getattr(b.setup, field.name))
        for field in fields(EvalSetup)
        if getattr(a.setup, field.name) != getattr(b.setup, field.name)
    }
    if a.vote != b.vote:
        differing["vote"] = (a.vote, b.vote)
    models = tuple({item.model for item in items if item.model} for items in zip(*pairs, strict=True))
    if models[0] != models[1]:
        differing["model"] = (", ".join(sorted(models[0])), ", ".join(sorted(models[1])))
    return differing


def check_reports(report: EvalReport, committed: EvalReport) -> list[Check]:
    """Check accuracy overall, at every k and by source. Raises BadTask if the reports are not comparable."""
    for what, one, other in (
        ("judges", report.setup.judge, committed.setup.judge),
        ("k", report.setup.k, committed.setup.k),
        ("numbers of items", report.items, committed.items),
        ("models", report.model, committed.model),
    ):
        if one != other:
            raise BadTask(f"these are reports of different {what}, {one} and {other}")
    return list(_checks(report, committed))


def _checks(report: EvalReport, committed: EvalReport) -> Iterator[Check]:
    if report.overall is None or committed.overall is None:
        raise BadTask("a report has no item with a right response")
    overall = committed.overall
    yield Check("strictly right", report.overall.strict, overall.strict, overall.strict_interval)
    steps = {step.k: step for step in report.scaling}
    for step in committed.scaling:
        if step.k in steps:
            yield Check(f"k = {step.k}, ties shared", steps[step.k].half, step.half, step.half_interval)
    if report.by_source.keys() != committed.by_source.keys():
        raise BadTask("these are reports of different data: their sources differ")
    for name, source in committed.by_source.items():
        # Strict accuracy, because Wilson's interval has a width even if all or none were right.
        yield Check(name, report.by_source[name].strict, source.strict, source.strict_interval)
