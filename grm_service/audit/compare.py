"""What differs between a verdict and the same task judged again."""

from __future__ import annotations

from collections.abc import Iterator

from grm_service.types import Sample, Verdict


def differences(first: Verdict, again: Verdict) -> Iterator[str]:
    """A line for whatever differs: judge, plan, samples, rewards; none where all is the same."""
    for name in ("profile", "fingerprint", "model", "meta_rm"):
        before, now = getattr(first, name), getattr(again, name)
        if before != now:
            yield f"{name}: {before} -> {now}"
    taken = list(zip(first.samples, again.samples, strict=False))
    other = [one.index for one, two in taken if (one.order, one.seed) != (two.order, two.seed)]
    if other or first.k != again.k:
        yield f"plan: k {first.k} -> {again.k}, other orders or seeds in samples {other}"
    if len(first.samples) != len(again.samples):
        yield f"samples taken: {len(first.samples)} -> {len(again.samples)}"
    for one, two in taken:
        if one.text != two.text:
            yield f"sample {one.index}: other text, scores {_scores(one)} -> {_scores(two)}"
    if first.vote.rewards != again.vote.rewards:
        yield f"rewards: {list(first.vote.rewards)} -> {list(again.vote.rewards)}"


def _scores(sample: Sample) -> object:
    return sample.error if sample.scores is None else list(sample.scores)
