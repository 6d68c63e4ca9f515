"""Comparison of a verdict with a replay of the same task."""

from __future__ import annotations

from collections.abc import Iterator

from grm_service.types import Sample, Verdict


def differences(first: Verdict, again: Verdict) -> Iterator[str]:
    """Yield a line for each difference in judge, plan, samples and rewards; nothing if they are the same."""
    for name in ("profile", "fingerprint", "model", "meta_rm"):
        before, now = getattr(first, name), getattr(again, name)
        if before != now:
            yield f"{name}: {before} -> {now}"
    pairs = list(zip(first.samples, again.samples, strict=False))
    moved = [one.index for one, two in pairs if (one.order, one.seed) != (two.order, two.seed)]
    if moved:
        yield f"plan: order or seed differs in samples {moved}"
    if len(first.samples) != len(again.samples):
        yield f"samples: {len(first.samples)} -> {len(again.samples)}"
    for one, two in pairs:
        if one.text != two.text:
            yield f"sample {one.index}: text differs, scores {_scores(one)} -> {_scores(two)}"
        elif one.thinking != two.thinking:
            yield f"sample {one.index}: thinking differs"
    if first.vote.rewards != again.vote.rewards:
        yield f"rewards: {list(first.vote.rewards)} -> {list(again.vote.rewards)}"


def _scores(sample: Sample) -> object:
    return sample.error if sample.scores is None else list(sample.scores)
