"""The gain of one response over another, and its standard error over the samples."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from grm_service.types import Verdict

_MIN_STANDARD_ERRORS = 2.0


@dataclass(frozen=True, slots=True)
class Gain:
    """The mean of the paired differences within each sample, and its standard error.

    Pairing cancels how strict or lenient a sample is. `error` is None for a single sample.
    """

    mean: float
    error: float | None

    @property
    def clear(self) -> bool:
        """True if the mean is more than twice its standard error; never for a single sample."""
        return self.error is not None and self.mean > _MIN_STANDARD_ERRORS * self.error


def paired_gain(verdict: Verdict, new: int, old: int) -> Gain | None:
    """Return the gain of response `new` over response `old`; None if no counted sample scored both."""
    values = _differences(verdict, new, old)
    if not values:
        return None
    return Gain(fmean(values), stdev(values) / sqrt(len(values)) if len(values) > 1 else None)


def _differences(verdict: Verdict, new: int, old: int) -> list[float]:
    """Return the score of `new` minus that of `old` for every counted sample that scored both."""
    rows = [sample.scores for sample in verdict.samples if sample.counted and sample.scores is not None]
    return [
        after - before for row in rows if (after := row[new]) is not None and (before := row[old]) is not None
    ]
