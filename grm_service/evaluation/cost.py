"""The cost of judging, and the savings that early stopping would have brought."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import cast

from grm_service.evaluation import outcomes
from grm_service.evaluation.run_folder import ItemResult, SampleResult
from grm_service.evaluation.stats import Interval, bootstrap, mean_known
from grm_service.judging.early_stop import ScoreRow, next_wave
from grm_service.profiles.profile import Scale
from grm_service.types import StopRule, total

RULES: tuple[StopRule, ...] = ("exact", "confident")


@dataclass(frozen=True, slots=True)
class Stopping:
    """The effect of a stop rule on the stored samples.

    `samples_saved` and `tokens_saved` are shares (0..1) of samples and completion tokens, `same_winner` is
    the share of items with the same winner, `accuracy_change` is strict accuracy minus that of all samples.
    """

    rule: StopRule
    samples_saved: float
    tokens_saved: float | None
    same_winner: float
    accuracy_change: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class CostReport:
    """Means per item. `cached_tokens` is the part of the prompt tokens that needed no prefill.

    Tokens are None if the judge's server does not state them.

    Seconds are those of one verdict while others ran concurrently, None if they were not reported.
    """

    prompt_tokens: float | None
    cached_tokens: float | None
    completion_tokens: float | None
    seconds_median: float | None
    seconds_p95: float | None
    stopping: tuple[Stopping, ...]


def measure_cost(items: Sequence[ItemResult], scale: Scale | None, k: int) -> CostReport:
    """Return the cost of at least one item; without a scale, stop rules cannot be applied."""
    seconds = sorted(item.seconds for item in items if item.seconds)
    return CostReport(
        prompt_tokens=mean_known(item.prompt_tokens for item in items),
        cached_tokens=mean_known(item.cached_tokens for item in items),
        completion_tokens=mean_known(item.completion_tokens for item in items),
        seconds_median=_percentile(seconds, 0.5),
        seconds_p95=_percentile(seconds, 0.95),
        stopping=() if scale is None else tuple(_apply_rule(rule, items, scale, k) for rule in RULES),
    )


def completion_tokens(item: ItemResult, j: int, k: int) -> float | None:
    """Return the mean completion tokens of j of k samples, with those of principles written beforehand.

    None if they are unknown.
    """
    sampled = _token_count(item.samples)
    if sampled is None or item.completion_tokens is None:
        return None
    return item.completion_tokens - sampled + sampled * j / k


def _apply_rule(rule: StopRule, items: Sequence[ItemResult], scale: Scale, k: int) -> Stopping:
    stopped = [_until_stop(rule, item, scale, k) for item in items]
    full = [item.samples for item in items]
    changes = [
        outcomes.sample_credit(samples, item.correct).strict - outcomes.item_credit(item).strict
        for samples, item in zip(stopped, items, strict=True)
        if item.correct
    ]
    groups = [item.group for item in items if item.correct]
    return Stopping(
        rule=rule,
        samples_saved=1 - _ratio(map(len, stopped), map(len, full)),
        tokens_saved=_tokens_saved(stopped, full),
        same_winner=fmean(_winner(a) == _winner(b) for a, b in zip(stopped, full, strict=True)),
        accuracy_change=fmean(changes) if changes else 0.0,
        interval=bootstrap(changes, groups) if changes else Interval(0.0, 0.0),
    )


def _until_stop(rule: StopRule, item: ItemResult, scale: Scale, k: int) -> tuple[SampleResult, ...]:
    """Return the samples that the judge would have generated under a stop rule."""
    if item.in_blocks or len(item.samples) < k:
        return item.samples  # the judge does not stop large groups early either
    # Replays the judge's waves (judging/judge.py) on the stored scores.
    count = 0
    while wave := next_wave(
        rule, [cast("ScoreRow", s.scores) for s in item.samples[:count]], k, len(item.lengths), scale
    ):
        count += wave
    return item.samples[:count]


def _winner(samples: Sequence[SampleResult]) -> int | None:
    rewards = outcomes.vote_rewards(samples)
    if rewards is None or rewards.count(max(rewards)) > 1:
        return None
    return rewards.index(max(rewards))


def _tokens_saved(
    stopped: Iterable[Sequence[SampleResult]], full: Iterable[Sequence[SampleResult]]
) -> float | None:
    part, whole = total(map(_token_count, stopped)), total(map(_token_count, full))
    return None if part is None or whole is None else 1 - _ratio([part], [whole])


def _token_count(samples: Sequence[SampleResult]) -> int | None:
    return total(sample.tokens for sample in samples)


def _ratio(parts: Iterable[int], wholes: Iterable[int]) -> float:
    part, whole = sum(parts), sum(wholes)
    return part / whole if whole else 1.0


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
