"""The figures of one run: the values of report.json, which docs/evaluation.md explains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from grm_service.evaluation import outcomes, stats
from grm_service.evaluation.bias import (
    AuthorBias,
    LengthBias,
    PositionBias,
    author_bias,
    length_bias,
    position_bias,
)
from grm_service.evaluation.cost import CostReport, measure_cost
from grm_service.evaluation.outcomes import META_VOTE, VOTES, Grading, VoteKind
from grm_service.evaluation.run_folder import EvalSetup, ItemResult
from grm_service.evaluation.scaling import Step, error_codes, scaling_curve, subsampling_obstacle
from grm_service.evaluation.stats import Bin, Interval
from grm_service.profiles.profile import Scale

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Accuracy over `n` items, of which `failed` have no vote and `ties` a right response tied at the top.

    `strict` counts ties as wrong and has a Wilson interval; `half` counts a tie among m responses as 1/m (see
    outcomes.Credit) and has a bootstrap interval. Failed items are wrong in both.
    """

    n: int
    failed: int
    ties: int
    strict: float
    strict_interval: Interval
    half: float
    half_interval: Interval


@dataclass(frozen=True, slots=True)
class VoteAccuracy:
    """Accuracy of a vote over the same samples; `difference` is `half` minus that of the mean, paired."""

    vote: VoteKind
    strict: float
    strict_interval: Interval
    half: float
    half_interval: Interval
    difference: float
    difference_interval: Interval


@dataclass(frozen=True, slots=True)
class Calibration:
    """The vote's agreement as a prediction of being strictly right, over `n` items with a vote.

    `error` is the expected calibration error; `risk_coverage` holds (coverage, accuracy) pairs; `area` is the
    area under the risk-coverage curve, and `area_of_chance` its value if agreement were uninformative.
    """

    n: int
    bins: tuple[Bin, ...]
    error: float
    risk_coverage: tuple[tuple[float, float], ...]
    area: float
    area_of_chance: float


@dataclass(frozen=True, slots=True)
class Readability:
    """The number of samples; the shares (0..1) that were readable and that the closing finished; reasons.

    `errors` counts the samples without scores, `closed_reasons` those that the closing finished, and
    `soft_errors` those that have no soft scores, each by reason.
    """

    taken: int
    readable: float
    closed: float
    errors: Mapping[str, int]
    closed_reasons: Mapping[str, int] = field(default_factory=dict)
    soft_errors: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ties:
    """Items that annotators call a tie: the share that the judge also ties, the mean gap of the top two."""

    n: int
    judged_ties: float
    gap: float


@dataclass(frozen=True, slots=True)
class EvalReport:
    """The report of one run.

    `left_out` counts the rows of the data without a preference, by reason, `failed` the items without a vote,
    by code; `unread` are the files in the data's folder that are no data files.
    `by_probe` is the accuracy on items that test a bias. `scaling` has only the run's k, and `votes` and
    `cost.stopping` are empty, if stopping early makes them meaningless (see docs/evaluation.md). Other parts
    are None if the data has nothing for them.
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
    votes: tuple[VoteAccuracy, ...]
    calibration: Calibration | None
    ties: Ties | None
    reading: Readability
    position: PositionBias | None
    length: LengthBias
    authors: tuple[AuthorBias, ...]
    cost: CostReport
    grading: Grading | None = None
    unread: tuple[str, ...] = ()


def measure(
    items: Sequence[ItemResult],
    setup: EvalSetup,
    ks: Sequence[int],
    scale: Scale | None = None,
    data: str = "",
    left_out: Mapping[str, int] | None = None,
    unread: tuple[str, ...] = (),
) -> EvalReport:
    """Return the report of at least one item; the same items give the same report."""
    labelled = [item for item in items if item.correct]
    # Failed items have no fingerprint; RunFolder ensures that the others agree.
    judged = next((item for item in items if item.fingerprint is not None), items[0])
    full = setup.stop == "none"
    return EvalReport(
        format=FORMAT,
        data=data,
        setup=setup,
        fingerprint=judged.fingerprint,
        model=judged.model,
        items=len(items),
        failed=dict(Counter(item.error for item in items if item.error is not None)),
        left_out=dict(left_out or {}),
        overall=measure_accuracy(labelled) if labelled else None,
        by_source=_accuracy_by([item.source for item in labelled], labelled),
        by_probe=_accuracy_by([item.probe for item in labelled], labelled),
        scaling=_scaling(labelled, ks, setup) if labelled else (),
        votes=_votes(labelled, setup) if labelled and full else (),
        calibration=_calibration(labelled),
        ties=_ties([item for item in items if not item.correct and item.error is None]),
        reading=_readability(items),
        position=position_bias(labelled) if setup.judge != "absolute" else None,
        length=length_bias(labelled),
        authors=author_bias(labelled, judged.model),
        cost=measure_cost(items, scale if full else None, setup.k),
        grading=outcomes.measure_grading(outcomes.graded_samples(labelled)),
        unread=unread,
    )


def measure_accuracy(items: Sequence[ItemResult]) -> Accuracy:
    """Return the accuracy on at least one item, each with a right response."""
    credits_ = [outcomes.item_credit(item) for item in items]
    strict = sum(credit.strict == 1 for credit in credits_)
    half = [credit.half for credit in credits_]
    return Accuracy(
        n=len(items),
        failed=sum(item.error is not None for item in items),
        ties=sum(credit.half > credit.strict for credit in credits_),
        strict=strict / len(items),
        strict_interval=stats.wilson(strict, len(items)),
        half=fmean(half),
        half_interval=stats.bootstrap(half, [item.group for item in items]),
    )


def _accuracy_by(names: Sequence[str], items: Sequence[ItemResult]) -> dict[str, Accuracy]:
    pairs = list(zip(names, items, strict=True))
    return {
        name: measure_accuracy([item for its_name, item in pairs if its_name == name])
        for name in sorted(set(names))
        if name
    }


def _scaling(items: Sequence[ItemResult], ks: Sequence[int], setup: EvalSetup) -> tuple[Step, ...]:
    if subsampling_obstacle(setup.stop, error_codes(items)) is not None:
        ks = ()
    return scaling_curve(items, sorted({*ks, setup.k}), setup.k)


def _votes(items: Sequence[ItemResult], setup: EvalSetup) -> tuple[VoteAccuracy, ...]:
    groups = [item.group for item in items]
    served = [outcomes.item_credit(item).half for item in items]
    is_graded = bool(outcomes.graded_samples(items))
    votes = list[VoteAccuracy]()
    for kind in (kind for kind in VOTES if kind != META_VOTE or is_graded):
        credits_ = [outcomes.item_credit(item, kind, setup.meta_share) for item in items]
        half = [credit.half for credit in credits_]
        difference = [a - b for a, b in zip(half, served, strict=True)]
        strict = sum(credit.strict == 1 for credit in credits_)
        vote = VoteAccuracy(
            vote=kind,
            strict=strict / len(items),
            strict_interval=stats.wilson(strict, len(items)),
            half=fmean(half),
            half_interval=stats.bootstrap(half, groups),
            difference=fmean(difference),
            difference_interval=stats.bootstrap(difference, groups),
        )
        votes.append(vote)
    return tuple(votes)


def _calibration(items: Sequence[ItemResult]) -> Calibration | None:
    voted = [(item, agreement) for item in items if (agreement := outcomes.agreement(item)) is not None]
    if not voted:
        return None
    predicted = [agreement for _, agreement in voted]
    right = [outcomes.item_credit(item).strict for item, _ in voted]
    bins = stats.reliability(predicted, right)
    return Calibration(
        n=len(voted),
        bins=bins,
        error=stats.calibration_error(bins),
        risk_coverage=stats.risk_coverage(predicted, right),
        area=stats.area_under_risk(predicted, right),
        area_of_chance=1 - fmean(right),
    )


def _ties(items: Sequence[ItemResult]) -> Ties | None:
    gaps = []
    for item in items:
        first, second, *_ = sorted(outcomes.vote_rewards(item.samples) or (0.0, 0.0), reverse=True)
        gaps.append(first - second)
    return Ties(len(gaps), fmean(gap == 0 for gap in gaps), fmean(gaps)) if gaps else None


def _readability(items: Sequence[ItemResult]) -> Readability:
    samples = [sample for item in items for sample in item.samples]
    n = len(samples)
    return Readability(
        taken=n,
        readable=sum(sample.scores is not None for sample in samples) / n if n else 0.0,
        closed=sum(sample.closed for sample in samples) / n if n else 0.0,
        errors=_counted(sample.error for sample in samples),
        closed_reasons=_counted(sample.closed_reason for sample in samples),
        soft_errors=_counted(sample.soft_error for sample in samples),
    )


def _counted(reasons: Iterable[str | None]) -> dict[str, int]:
    return dict(Counter(reason for reason in reasons if reason is not None))
