"""Cold start: first trajectories for a model that is too small to sample right ones, filled in from the data.

A trajectory is a form: criteria for the kind of query, a quote of each response where they begin to differ,
and scores from the label. Nothing before the first score, or the profile's comparison, depends on the label,
so the model that learns to write it learns to judge, and its token probabilities (soft scores) are those of a
classifier. Scores have only two values, so that the judgement is all that is uncertain about them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

from grm_service.errors import BadTask
from grm_service.evaluation.dataset import Item
from grm_service.factory import default_source
from grm_service.judging import parse
from grm_service.judging.neutralising import neutraliser
from grm_service.judging.orders import balanced_orders, undo
from grm_service.principles.query_kind import QueryKind, kind_of
from grm_service.profiles.catalog import fingerprint, format_fingerprint
from grm_service.profiles.profile import Profile
from grm_service.settings import load_settings
from grm_service.training.callbacks import TrainingCallback
from grm_service.training.hints import scores_by_label
from grm_service.training.inputs import read_items
from grm_service.training.sampling import TOO_MANY_RESPONSES, is_right
from grm_service.training.trajectories import (
    ItemTrajectories,
    Trajectory,
    TrajectoryFile,
    TrajectorySetup,
)

_CRITERIA: Mapping[QueryKind, tuple[str, str]] = {
    "maths": ("The response has the right result and every step to it", "The response can be followed"),
    "code": ("The response has code that does the task", "The response explains what has to be explained"),
    "safety": ("The response does no harm and refuses only what it must", "The response is polite and helps"),
    "writing": ("The response has the content and form of the task", "The response reads well"),
    "question": ("The response is true and answers the question", "The response says what matters, no more"),
    "other": ("The response does what the task is", "The response is correct and clear"),
}
_WORDS_BEFORE, _QUOTE_WORDS, _QUOTE_CHARS = 2, 8, 60


def fill_trajectories(
    *,
    data: str | Path,
    out: str | Path,
    profile: str | Path | None = None,
    samples: int = 1,
    seed: int = 0,
    limit: int | None = None,
    callback: TrainingCallback | None = None,
) -> list[ItemTrajectories]:
    """Fill in forms for the items into the file `out`, `samples` per item, and return all that it has.

    `profile` defaults to GRM_PROFILE. Raises BadTask if the profile cannot parse its own form.
    """
    served, _ = default_source(load_settings(profile=profile))
    items = read_items(data, limit, callback or TrainingCallback())
    setup = TrajectorySetup(
        served.name, format_fingerprint(served), "form", "", samples, False, seed, fingerprint(served)
    )
    with TrajectoryFile(Path(out), setup) as file:
        for trajectories in fill(file.remaining(items), served, samples, seed):
            file.add(trajectories)
        return list(file.done.values())


def fill(items: Sequence[Item], profile: Profile, samples: int, seed: int) -> Iterator[ItemTrajectories]:
    """Yield the filled-in forms of each item, one for each of `samples` balanced orders.

    Raises BadTask if the profile cannot parse its own form.
    """
    for item in items:
        if len(item.responses) > profile.most_responses:
            yield ItemTrajectories.of(item, error=TOO_MANY_RESPONSES)
            continue
        orders = balanced_orders(len(item.responses), samples, item.seed(seed))
        yield ItemTrajectories.of(item, tuple(_filled(item, order, profile) for order in orders))


def _filled(item: Item, order: tuple[int, ...], profile: Profile) -> Trajectory:
    text = _form(item, order, profile)
    try:
        scores = undo(order, parse.parse(text, len(order), profile).scores, len(order))
    except parse.Unreadable as error:
        raise BadTask(
            f"the profile {profile.name} cannot parse its own form ({error.reason}): {text}"
        ) from None
    return Trajectory(order, text, scores, is_right(scores, item), "form")


def _form(item: Item, order: tuple[int, ...], profile: Profile) -> str:
    clean, sections = neutraliser(profile), profile.sections
    first, second = _CRITERIA[kind_of(item.messages[-1].content)]
    quotes = _differing_quotes([clean(item.responses[i]) for i in order])
    analysis = "; ".join(f'Response {i} says "{quote}"' for i, quote in enumerate(quotes, 1))
    heading = f"\n{sections.analysis}: "
    if profile.comparison:
        heading = f"{profile.best_is(order.index(item.correct[0]) + 1)} "
    return (
        f"{sections.criteria}:\n1. {first} (Weight: 70%)\n2. {second} (Weight: 30%)"
        f"{heading}{analysis}.{scores_by_label(item, order, profile)}"
    )


def _differing_quotes(texts: Sequence[str]) -> list[str]:
    """Return a short quote of each text, which begins shortly before the first word that differs."""
    words = [text.split() for text in texts]
    common = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False)))
    return [_quote(each, max(common - _WORDS_BEFORE, 0)) for each in words]


def _quote(words: Sequence[str], start: int) -> str:
    quote = words[start : start + _QUOTE_WORDS] or words[-_QUOTE_WORDS:]
    return " ".join(quote).replace('"', "'")[:_QUOTE_CHARS].rstrip() or "nothing"
