"""Everything that is known of a run: the values behind report.json, which docs/evaluation.md explains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from grm_service.evaluation import bias, outcomes, scaling, stats
from grm_service.evaluation.cost import CostReport, cost_of
from grm_service.evaluation.grading import Grading, graded, grading
from grm_service.evaluation.run_folder import EvalSetup, ItemResult
from grm_service.evaluation.scaling import Step
from grm_service.evaluation.stats import Bin, Interval
from grm_service.evaluation.votes import GUIDED, VOTES, VoteKind
from grm_service.profiles.profile import Scale

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of `n` items, of which `ties` had a right response in a tie at the top and `failed` had no vote at all.

    `strict` counts ties as wrong, with its Wilson interval; `half` by their share (see outcomes.Credit), with
    a bootstrapped one. What failed is wrong in both.
    """

    n: int
    failed: int
    ties: int
    strict: float
    strict_interval: Interval
    half: float
    half_interval: Interval


@dataclass(frozen=True, slots=True)
class Voted:
    """What all samples earn under another vote than the mean, which is what the service serves.

    `difference` is `half` less that of the mean, with a paired interval.
    """

    vote: VoteKind
    strict: float
    strict_interval: Interval
    half: float
    half_interval: Interval
    difference: float
    difference_interval: Interval


@dataclass(frozen=True, slots=True)
class Calibration:
    """The vote's agreement as a prediction of being right (strictly), over `n` items with a vote.

    `error` is the expected calibration error; `risk_coverage` has (coverage, accuracy) pairs; `area` is that
    under the risk, and `area_of_chance` what it would be if agreement said nothing.
    """

    n: int
    bins: tuple[Bin, ...]
    error: float
    risk_coverage: tuple[tuple[float, float], ...]
    area: float
    area_of_chance: float


@dataclass(frozen=True, slots=True)
class Reading:
    """Samples taken; the shares (0..1) that could be read, and that the closing finished; why others not."""

    taken: int
    readable: float
    closed: float
    errors: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Ties:
    """Items that people call a tie: the share that the judge does, the mean gap of the top two rewards."""

    n: int
    judged_ties: float
    gap: float


@dataclass(frozen=True, slots=True)
class EvalReport:
    """One run. `left_out` counts rows of the data of which nothing can be right or wrong, `failed` the items
    without a vote, by code; `by_probe` is the accuracy on items made to show a weakness. Parts are None where
    the data has nothing for them.
    """

    format: int
    data: str
    setup: EvalSetup
    fingerprint: str | None
    model: str | None
    items: int
    failed: Mapping[str, int]
    left_out: Mapping[str, int]
    overall: Accuracy | None
    by_source: Mapping[str, Accuracy]
    by_probe: Mapping[str, Accuracy]
    scaling: tuple[Step, ...]
    votes: tuple[Voted, ...]
    calibration: Calibration | None
    ties: Ties | None
    reading: Reading
    position: bias.Position | None
    length: bias.Length
    authors: tuple[bias.Author, ...]
    cost: CostReport
    grading: Grading | None = None


def measure(
    items: Sequence[ItemResult],
    setup: EvalSetup,
    ks: Sequence[int],
    scale: Scale | None = None,
    data: str = "",
    left_out: Mapping[str, int] | None = None,
) -> EvalReport:
    """All figures of at least one item; the same items give the same report."""
    decided = [item for item in items if item.correct]
    told = next((item for item in items if item.fingerprint is not None), items[0])
    return EvalReport(
        format=FORMAT,
        data=data,
        setup=setup,
        fingerprint=told.fingerprint,
        model=told.model,
        items=len(items),
        failed=dict(Counter(item.error for item in items if item.error is not None)),
        left_out=dict(left_out or {}),
        overall=accuracy(decided) if decided else None,
        by_source=_by([item.source for item in decided], decided),
        by_probe=_by([item.probe for item in decided], decided),
        scaling=scaling.steps(decided, sorted({*ks, setup.k}), setup.k) if decided else (),
        votes=_votes(decided) if decided else (),
        calibration=_calibration(decided),
        ties=_ties([item for item in items if not item.correct and item.error is None]),
        reading=_reading(items),
        position=bias.position(decided) if setup.judge != "absolute" else None,
        length=bias.length(decided),
        authors=bias.authors(decided, told.model),
        cost=cost_of(items, scale, setup.k),
        grading=grading(graded(decided)),
    )


def accuracy(items: Sequence[ItemResult]) -> Accuracy:
    """Of at least one item, each with a right response."""
    credits_ = [outcomes.of(item) for item in items]
    strict = sum(each.strict == 1 for each in credits_)
    half = [each.half for each in credits_]
    return Accuracy(
        n=len(items),
        failed=sum(item.error is not None for item in items),
        ties=sum(each.half > each.strict for each in credits_),
        strict=strict / len(items),
        strict_interval=stats.wilson(strict, len(items)),
        half=fmean(half),
        half_interval=stats.bootstrap(half, [item.group for item in items]),
    )


def _by(names: Sequence[str], items: Sequence[ItemResult]) -> dict[str, Accuracy]:
    named = list(zip(names, items, strict=True))
    return {
        name: accuracy([item for its, item in named if its == name]) for name in sorted(set(names)) if name
    }


def _votes(items: Sequence[ItemResult]) -> tuple[Voted, ...]:
    groups = [item.group for item in items]
    served = [outcomes.of(item).half for item in items]
    found = list[Voted]()
    by_grade = bool(graded(items))
    for kind in (kind for kind in VOTES if kind != GUIDED or by_grade):
        credits_ = [outcomes.of(item, kind) for item in items]
        half = [each.half for each in credits_]
        difference = [a - b for a, b in zip(half, served, strict=True)]
        strict = sum(each.strict == 1 for each in credits_)
        voted = Voted(
            vote=kind,
            strict=strict / len(items),
            strict_interval=stats.wilson(strict, len(items)),
            half=fmean(half),
            half_interval=stats.bootstrap(half, groups),
            difference=fmean(difference),
            difference_interval=stats.bootstrap(difference, groups),
        )
        found.append(voted)
    return tuple(found)


def _calibration(items: Sequence[ItemResult]) -> Calibration | None:
    sure = [(found, item) for item in items if (found := outcomes.agreement(item)) is not None]
    if not sure:
        return None
    predicted = [agreement for agreement, _ in sure]
    right = [outcomes.of(item).strict for _, item in sure]
    bins = stats.reliability(predicted, right)
    return Calibration(
        n=len(sure),
        bins=bins,
        error=stats.calibration_error(bins),
        risk_coverage=stats.risk_coverage(predicted, right),
        area=stats.area_under_risk(predicted, right),
        area_of_chance=1 - fmean(right),
    )


def _ties(items: Sequence[ItemResult]) -> Ties | None:
    gaps = []
    for item in items:
        first, second, *_ = sorted(outcomes.rewards(item.samples) or (0.0, 0.0), reverse=True)
        gaps.append(first - second)
    return Ties(len(gaps), fmean(gap == 0 for gap in gaps), fmean(gaps)) if gaps else None


def _reading(items: Sequence[ItemResult]) -> Reading:
    samples = [sample for item in items for sample in item.samples]
    taken = len(samples)
    return Reading(
        taken=taken,
        readable=sum(sample.scores is not None for sample in samples) / taken if taken else 0.0,
        closed=sum(sample.closed for sample in samples) / taken if taken else 0.0,
        errors=dict(Counter(sample.error for sample in samples if sample.error is not None)),
    )
