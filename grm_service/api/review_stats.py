"""Reply models of statistics over the audit trail: agreement with reviewers, and the judge's principles."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import Field

from grm_service.api.base import Described
from grm_service.principles.observed import Observations
from grm_service.review.agreement import Agreement, AgreementStats


class AgreementOut(Described):
    """How often reviewers choose the same response as the judge."""

    reviews: int
    """Number of reviews: the latest of each reviewer on each verdict, if it rates the responses."""
    agreed: int
    """Number of those reviews that choose as the judge does; a tie is a choice, too."""
    kappa: float | None
    """Cohen's kappa, -1 to 1; null if it is undefined, because chance alone would always agree."""
    interval: tuple[float, float] | None
    """Ends of the 95 % interval of kappa; null if kappa is."""


class GroupOut(AgreementOut):
    """Agreement for one profile and one kind of principles."""

    profile: str
    """Name of the profile that judged."""
    principles: str
    """Mode of the principles, with the named set or `own` for your own: `self`, `fixed:code`, `query:own`."""


class WeekOut(AgreementOut):
    """Agreement in one week."""

    since: Annotated[date, Field(serialization_alias="from")]
    """Monday of the week in which the reviews were written, in UTC."""


class StatsOut(Described):
    """Agreement between reviewers and the judge."""

    groups: list[GroupOut]
    """Agreement by profile and kind of principles, in alphabetical order."""
    over_time: list[WeekOut]
    """Agreement by week, oldest first; weeks without reviews are left out."""

    @classmethod
    def of(cls, stats: AgreementStats) -> StatsOut:
        return cls(
            groups=[
                GroupOut(profile=profile, principles=principles, **_numbers(agreement))
                for profile, principles, agreement in stats.groups
            ],
            over_time=[WeekOut(since=week, **_numbers(agreement)) for week, agreement in stats.weeks],
        )


class ObservedOut(Described):
    """A principle written by the judge, with near-identical wordings merged; see docs/oversight.md."""

    text: str
    """The first wording."""
    count: int
    """Number of samples that state the principle."""
    share: float
    """`count` as a share of all readable samples, 0 to 1."""
    weight: float | None
    """Mean of the stated weights, 0 to 1; null if none is stated."""
    wins: int
    """Number of those samples that rank the verdict's best response on top."""
    win_rate: float | None
    """`wins` as a share (0 to 1) of the samples that could win: counted, with a single top, in a verdict with
    a single best of several responses. Null if there are none.
    """
    kinds: dict[str, int]
    """Number of those samples by the kind of query: code, maths, writing, safety, question, other."""
    flags: list[str]
    """Lint rules that the text breaks: subjective, compound, ungrounded, style, redundant, gameable."""
    unsound: int
    """Number of reviews that call the principle unsound."""


class ObservationsOut(Described):
    """The principles that the judge wrote itself."""

    verdicts: int
    """Number of verdicts in which the judge wrote principles: those with other modes than `fixed`."""
    samples: int
    """Number of their readable samples."""
    principles: list[ObservedOut]
    """The 100 most frequent principles, most frequent first."""

    @classmethod
    def of(cls, observations: Observations) -> ObservationsOut:
        return cls.model_validate(observations, from_attributes=True)


def _numbers(agreement: Agreement) -> dict[str, object]:
    return {name: getattr(agreement, name) for name in ("reviews", "agreed", "kappa", "interval")}
