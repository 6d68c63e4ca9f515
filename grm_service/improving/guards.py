"""What a reader of a gain should know: a judge that improves what it judges can fool itself."""

from __future__ import annotations

from grm_service.improving.lineage import Flag, Improvement

_LONGER = 1.5


def flags(whole: Improvement, same_model: bool) -> tuple[Flag, ...]:
    """Of what is in the lineage; `same_model`: policy and judge are one.

    A gain that the second opinion could not say anything of is not shared either.
    """
    better = whole.best != whole.original
    found: dict[Flag, bool] = {
        "same_model": same_model,
        "gain_not_shared": better and not (whole.opinion is not None and whole.opinion.shared),
        "gain_unclear": better and not (whole.gain is not None and whole.gain.clear),
        "grew_longer": better and (whole.growth is None or whole.growth > _LONGER),
    }
    return tuple(flag for flag, holds in found.items() if holds)
