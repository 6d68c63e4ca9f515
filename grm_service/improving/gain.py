"""By how much one response is better than another, and whether the votes' spread leaves a doubt."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from grm_service.types import Verdict

_ERRORS = 2.0


@dataclass(frozen=True, slots=True)
class Gain:
    """Mean of the samples' own differences, which a strict or a lenient sample does not blur.

    `error` is its standard error, None for a single sample.
    """

    mean: float
    error: float | None

    @property
    def clear(self) -> bool:
        """Whether it is more than twice its error; one sample alone never makes it clear."""
        return self.error is not None and self.mean > _ERRORS * self.error


def gain(verdict: Verdict, new: int, old: int) -> Gain | None:
    """Of response `new` over response `old` of a verdict; None where no counted sample saw both."""
    apart = differences(verdict, new, old)
    if not apart:
        return None
    return Gain(fmean(apart), stdev(apart) / sqrt(len(apart)) if len(apart) > 1 else None)


def differences(verdict: Verdict, new: int, old: int) -> list[float]:
    """Score of `new` less that of `old`, of every counted sample that saw both."""
    rows = [sample.scores for sample in verdict.samples if sample.counted and sample.scores is not None]
    return [
        after - before for row in rows if (after := row[new]) is not None and (before := row[old]) is not None
    ]
