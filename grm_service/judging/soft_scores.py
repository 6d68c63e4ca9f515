"""Soft scores: the expected score over the scale, from the model's own token probabilities (DESIGN 5.4).

G-Eval (arXiv 2303.16634, section 2.3) weighs every score by its probability; so do we, at each place where
a score stands, given all that the model wrote before it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Sequence

from grm_service.profiles.profile import Scale
from grm_service.types import Alternative

ALTERNATIVES = 20
"""As many as vLLM tells by default."""

Following = Callable[[str], Awaitable[Sequence[Alternative]]]
"""Gives the likeliest tokens behind a text."""

_NEGLIGIBLE = 1e-4


async def chances(
    following: Following, scale: Scale, spelled: str = "", chance: float = 1.0
) -> dict[str, float]:
    """The probability of each number of the scale to be written behind `spelled`, its first digits.

    A number may be one token or several: "10" as "1" and "0" takes its share from what follows the "1",
    which is asked for where it matters. The sum is below 1 where other text could follow.
    """
    numbers = [str(x) for x in range(scale.min, scale.max + 1)]
    found = dict.fromkeys(numbers, 0.0)
    for token in await following(spelled):
        text = spelled + (token.text if spelled else token.text.lstrip())
        share = chance * math.exp(token.logprob)
        longer = any(number.startswith(text) and number != text for number in numbers)
        if text == spelled or not (text in numbers or longer):
            continue
        more: dict[str, float] = {}
        if longer and share > _NEGLIGIBLE:
            more = await chances(following, scale, text, share)
        if text in numbers:
            found[text] += share - sum(more.values())
        for number, part in more.items():
            found[number] += part
    return found


def expected(found: dict[str, float]) -> float | None:
    """The mean over the scale, weighed by what each number got; None where none got anything."""
    total = math.fsum(found.values())
    return math.fsum(int(number) * share for number, share in found.items()) / total if total > 0 else None


def places(inside: str) -> list[int]:
    r"""Where the scores begin in the inside of a `\boxed{...}`."""
    return [number.start() for number in re.finditer(r"[+-]?\d+(\.\d+)?", inside)]
