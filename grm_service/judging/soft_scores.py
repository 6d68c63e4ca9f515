"""Soft scores: the expected score over the scale, from the model's own token probabilities.

As in G-Eval (arXiv 2303.16634, section 2.3), every score is weighted by its probability at the position of
the score, given everything that the model wrote before it. Where a profile's critiques begin their analysis
with the best response, its probability is the better signal: one token compares the responses directly.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Sequence

from grm_service.profiles.profile import Scale
from grm_service.types import Alternative

ALTERNATIVES = 20
"""vLLM's default limit of logprobs per position."""

NextTokens = Callable[[str], Awaitable[Sequence[Alternative]]]
"""Returns the likeliest tokens after the digits written so far."""

_NEGLIGIBLE = 1e-4


async def score_probabilities(
    next_tokens: NextTokens, scale: Scale, digits: str = "", probability: float = 1.0
) -> dict[str, float]:
    """Return the probability of each number of the scale, given its first `digits`.

    A number may be one token or several: "10" as "1" and "0" takes its share from the tokens after "1",
    which are requested unless negligible. The sum is below 1 if other text could follow.
    """
    numbers = [str(x) for x in range(scale.min, scale.max + 1)]
    probabilities = dict.fromkeys(numbers, 0.0)
    for token in await next_tokens(digits):
        text = digits + (token.text if digits else token.text.lstrip())
        share = probability * math.exp(token.logprob)
        longer = any(number.startswith(text) and number != text for number in numbers)
        if text == digits or not (text in numbers or longer):
            continue
        continued: dict[str, float] = {}
        if longer and share > _NEGLIGIBLE:
            continued = await score_probabilities(next_tokens, scale, text, share)
        if text in numbers:
            probabilities[text] += share - sum(continued.values())
        for number, part in continued.items():
            probabilities[number] += part
    return probabilities


def expected_score(probabilities: dict[str, float]) -> float | None:
    """Return the mean over the scale, weighted by probability; None if no number has any."""
    total = math.fsum(probabilities.values())
    if total <= 0:
        return None
    return math.fsum(int(number) * share for number, share in probabilities.items()) / total


def on_scale(shares: Sequence[float], scale: Scale) -> tuple[float, ...] | None:
    """Return shares as scores, all of them the scale's maximum and none its minimum; None if all are 0."""
    total = math.fsum(shares)
    if total <= 0:
        return None
    return tuple(scale.min + (scale.max - scale.min) * share / total for share in shares)


def score_offsets(content: str) -> list[int]:
    r"""Return the offsets of the scores in the content of a `\boxed{...}`."""
    return [number.start() for number in re.finditer(r"[+-]?\d+(\.\d+)?", content)]
