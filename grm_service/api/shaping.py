"""Reward shaping: transforms and length penalties, returned beside the raw rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Literal

from grm_service.profiles.profile import Scale

Transform = Literal["none", "minmax", "zscore", "rank", "centered"]
GROUP_TRANSFORMS = ("zscore", "rank", "centered")
"""Transforms that compare a response with its group, undefined for a single response."""


@dataclass(frozen=True, slots=True)
class LengthPenalty:
    """Subtract `per_1000` for every 1,000 characters beyond `free`, at most `most`."""

    free: int
    per_1000: float
    most: float


@dataclass(frozen=True, slots=True)
class Shaping:
    """The steps of shaping, in this order."""

    transform: Transform = "none"
    length_penalty: LengthPenalty | None = None


@dataclass(frozen=True, slots=True)
class Shaped:
    """`rewards` are `transformed` + `length_penalty` (0 or less), one of each per response."""

    transformed: tuple[float, ...]
    length_penalty: tuple[float, ...]
    rewards: tuple[float, ...]


def shape(rewards: Sequence[float], responses: Sequence[str], scale: Scale, shaping: Shaping) -> Shaped:
    """Return the shaped rewards.

    `minmax` maps the scale to 0..1; `zscore` is over the group (0 for all if all are equal); `rank` runs from
    1 for the best to 0 for the last (ties share their mean); `centered` subtracts the group's mean. Raises
    ValueError if a group transform gets a single response.
    """
    if len(rewards) == 1 and shaping.transform in GROUP_TRANSFORMS:
        raise ValueError(f"transform {shaping.transform!r} compares responses, and there is only one")
    transformed = tuple(_transformed(rewards, scale, shaping.transform))
    penalty = tuple(_penalty(len(text), shaping.length_penalty) for text in responses)
    return Shaped(transformed, penalty, tuple(a + b for a, b in zip(transformed, penalty, strict=True)))


def _transformed(rewards: Sequence[float], scale: Scale, transform: Transform) -> Sequence[float]:
    match transform:
        case "minmax":
            return [(reward - scale.min) / (scale.max - scale.min) for reward in rewards]
        case "zscore":
            mean, spread = fmean(rewards), pstdev(rewards)
            return [(reward - mean) / spread if spread else 0.0 for reward in rewards]
        case "rank":
            return [_beaten(reward, rewards) / (len(rewards) - 1) for reward in rewards]
        case "centered":
            mean = fmean(rewards)
            return [reward - mean for reward in rewards]
        case "none":
            return rewards


def _beaten(reward: float, rewards: Sequence[float]) -> float:
    return sum(other < reward for other in rewards) + (sum(other == reward for other in rewards) - 1) / 2


def _penalty(chars: int, penalty: LengthPenalty | None) -> float:
    if penalty is None or chars <= penalty.free:
        return 0.0
    return -min(penalty.most, penalty.per_1000 * (chars - penalty.free) / 1000)
