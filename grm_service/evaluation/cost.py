"""What judging cost, and what stopping early would have saved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import cast

from grm_service.evaluation import outcomes
from grm_service.evaluation.run_folder import ItemResult, SampleResult
from grm_service.evaluation.stats import Interval, bootstrap
from grm_service.judging.early_stop import ScoreRow, next_wave
from grm_service.profiles.profile import Scale
from grm_service.types import StopRule

RULES: tuple[StopRule, ...] = ("exact", "confident")


@dataclass(frozen=True, slots=True)
class Stopping:
    """A rule applied to the kept samples: shares (0..1) of samples and of completion tokens it would have
    saved, of items whose winner stays, and strict accuracy less that of all samples.
    """

    rule: StopRule
    samples_saved: float
    tokens_saved: float
    same_winner: float
    accuracy_change: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class CostReport:
    """Means an item. `cached_tokens` is the part of the prompts that needed no prefill. Seconds are those of
    one verdict while others ran beside it, None where nobody told.
    """

    prompt_tokens: float
    cached_tokens: float
    completion_tokens: float
    seconds_median: float | None
    seconds_p95: float | None
    stopping: tuple[Stopping, ...]


def cost_of(items: Sequence[ItemResult], scale: Scale | None, k: int) -> CostReport:
    """Of at least one item; without a scale nothing is known of stopping."""
    seconds = sorted(item.seconds for item in items if item.seconds)
    return CostReport(
        prompt_tokens=fmean(item.prompt_tokens for item in items),
        cached_tokens=fmean(item.cached_tokens for item in items),
        completion_tokens=fmean(item.completion_tokens for item in items),
        seconds_median=_at(seconds, 0.5),
        seconds_p95=_at(seconds, 0.95),
        stopping=() if scale is None else tuple(_stopping(rule, items, scale, k) for rule in RULES),
    )


def tokens(item: ItemResult, j: int, k: int) -> float:
    """Completion tokens that j of k samples take in the mean, with those of principles written before."""
    sampled = sum(sample.tokens for sample in item.samples)
    return item.completion_tokens - sampled + sampled * j / k


def _stopping(rule: StopRule, items: Sequence[ItemResult], scale: Scale, k: int) -> Stopping:
    taken = [_taken(rule, item, scale, k) for item in items]
    whole = [item.samples for item in items]
    changes = [
        outcomes.earned(some, item.correct).strict - outcomes.of(item).strict
        for some, item in zip(taken, items, strict=True)
        if item.correct
    ]
    groups = [item.group for item in items if item.correct]
    return Stopping(
        rule=rule,
        samples_saved=1 - _ratio([len(some) for some in taken], [len(some) for some in whole]),
        tokens_saved=1 - _ratio([_written(some) for some in taken], [_written(some) for some in whole]),
        same_winner=fmean(_winner(a) == _winner(b) for a, b in zip(taken, whole, strict=True)),
        accuracy_change=fmean(changes) if changes else 0.0,
        interval=bootstrap(changes, groups) if changes else Interval(0.0, 0.0),
    )


def _taken(rule: StopRule, item: ItemResult, scale: Scale, k: int) -> tuple[SampleResult, ...]:
    if item.in_blocks or len(item.samples) < k:
        return item.samples  # as the judge does: a lead in one prompt says nothing of the others
    taken = 0
    while wave := next_wave(
        rule, [cast("ScoreRow", s.scores) for s in item.samples[:taken]], k, len(item.lengths), scale
    ):
        taken += wave
    return item.samples[:taken]


def _winner(samples: Sequence[SampleResult]) -> int | None:
    rewards = outcomes.rewards(samples)
    if rewards is None or rewards.count(max(rewards)) > 1:
        return None
    return rewards.index(max(rewards))


def _written(samples: Sequence[SampleResult]) -> int:
    return sum(sample.tokens for sample in samples)


def _ratio(parts: Sequence[int], wholes: Sequence[int]) -> float:
    return sum(parts) / sum(wholes) if sum(wholes) else 1.0


def _at(ordered: Sequence[float], share: float) -> float | None:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
