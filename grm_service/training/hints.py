"""What a hinted trajectory gets from the label: the best response, and scores that agree with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from grm_service.evaluation.dataset import Item
from grm_service.judging import parse
from grm_service.profiles.profile import Profile

BEST, OTHERS = 0.8, 0.2
"""The scores of the best response and of the others, as a share (0..1) of the profile's scale."""
_SENTENCE = re.compile(r".*?(?:[.!?]['\")\]]*(?=\s|$)|[。！？])")


def with_hint(profile: Profile, best: int) -> Profile:
    """Return the profile with the number of the best response (from 1) at the end of its prompt."""
    judge = f"{profile.prompt.judge.rstrip()}\n\nThe best response is: Response {best}\n"
    return replace(profile, prompt=replace(profile.prompt, judge=judge))


def with_best(profile: Profile, text: str, best: int) -> str:
    """Return the criteria of a critique and, by the profile's comparison, the number of the best response."""
    return parse.before_analysis(text, profile) + profile.best_is(best)


def whole_sentences(text: str) -> str:
    """Return the sentences of the first line without the last one if it is cut off, maybe none."""
    return "".join(_SENTENCE.findall(text.partition("\n")[0]))


def scores_by_label(item: Item, order: Sequence[int], profile: Profile) -> str:
    """Return the end of a critique: the profile's closing with scores for the responses in this order."""
    scale = profile.scale
    shares = (BEST if i in item.correct else OTHERS for i in order)
    scores = (round(scale.min + share * (scale.max - scale.min)) for share in shares)
    return f"{profile.closing.text}{', '.join(map(str, scores))}}}"
