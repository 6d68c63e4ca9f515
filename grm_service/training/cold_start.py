"""First trajectories for a model too small to write any that are right: a form, filled in from the data.

Criteria are those for the query's kind; the analysis quotes each response where they begin to differ; the
scores say what the label says. Only they know of it: until the first score nothing tells which response is
the best, so that learning to write it is learning to judge, and its probabilities (soft scores) are those of
a classifier. Two values and no others, so that all that is uncertain of a score is the judgement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile

from grm_service.errors import BadTask
from grm_service.evaluation.dataset import Item
from grm_service.judging import parse
from grm_service.judging.orders import balanced_orders, undo
from grm_service.judging.prompt import neutraliser
from grm_service.principles.query_kind import QueryKind, kind_of
from grm_service.profiles.profile import Profile
from grm_service.training.sampling import TOO_MANY, right
from grm_service.training.trajectories import ItemTrajectories, Trajectory

BEST, OTHERS = 0.8, 0.2
"""Where on the profile's scale the scores stand."""
_CRITERIA: Mapping[QueryKind, tuple[str, str]] = {
    "maths": ("The result and every step to it are right", "The steps can be followed"),
    "code": ("The code does what was asked", "It is explained as far as it has to be"),
    "safety": ("It keeps from harm, and refuses only what it must", "It stays polite and helps"),
    "writing": ("It has the content and the form that were asked for", "It reads well"),
    "question": ("What it says is true and answers the question", "It says what matters and no more"),
    "other": ("It does what was asked", "It is correct and clear"),
}
_BEFORE, _WORDS, _CHARS = 2, 8, 60


def fill(items: Sequence[Item], profile: Profile, samples: int, seed: int) -> Iterator[ItemTrajectories]:
    """A form for each item with one best response, in so many of its balanced orders.

    Raises BadTask where the profile does not read its own form.
    """
    for item in items:
        if len(item.responses) > profile.most_responses:
            yield ItemTrajectories.of(item, error=TOO_MANY)
            continue
        drawn = balanced_orders(len(item.responses), samples, item.seed(seed))
        yield ItemTrajectories.of(item, tuple(_filled(item, order, profile) for order in drawn))


def _filled(item: Item, order: tuple[int, ...], profile: Profile) -> Trajectory:
    clean, sections = neutraliser(profile), profile.sections
    first, second = _CRITERIA[kind_of(item.messages[-1].content)]
    quotes = _where_they_differ([clean(item.responses[i]) for i in order])
    said = "; ".join(f'Response {i} says "{quote}"' for i, quote in enumerate(quotes, 1))
    scores = ", ".join(str(_score(profile, i in item.correct)) for i in order)
    text = (
        f"{sections.criteria}:\n1. {first} (Weight: 70%)\n2. {second} (Weight: 30%)\n"
        f"{sections.analysis}: {said}.{profile.closing.text}{scores}}}"
    )
    try:
        read = undo(order, parse.parse(text, len(order), profile).scores, len(order))
    except parse.Unreadable as unreadable:
        raise BadTask(
            f"the profile {profile.name} cannot read its form ({unreadable.reason}): {text}"
        ) from None
    return Trajectory(order, text, read, right(read, item), "form")


def _score(profile: Profile, best: bool) -> int:
    scale = profile.scale
    return round(scale.min + (BEST if best else OTHERS) * (scale.max - scale.min))


def _where_they_differ(shown: Sequence[str]) -> list[str]:
    """A few words of each, from shortly before the first that not all have."""
    words = [text.split() for text in shown]
    alike = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False)))
    return [_quoted(each, max(alike - _BEFORE, 0)) for each in words]


def _quoted(words: Sequence[str], start: int) -> str:
    found = words[start : start + _WORDS] or words[-_WORDS:]
    return " ".join(found).replace('"', "'")[:_CHARS].rstrip() or "nothing"
