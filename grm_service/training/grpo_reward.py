"""The reward of online RL: +1 for a completion that judges right, -1 for any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from grm_service.evaluation.dataset import Item
from grm_service.judging import parse
from grm_service.judging.orders import balanced_orders, undo
from grm_service.profiles.profile import Profile
from grm_service.training.sampling import is_right


@dataclass(frozen=True, slots=True)
class OrderedItem:
    """An item with the order of its responses in the prompt."""

    item: Item
    order: tuple[int, ...]


def in_all_orders(items: Sequence[Item], seed: int) -> list[OrderedItem]:
    """Return every item once for each of its balanced orders: each response is at each position once."""
    return [
        OrderedItem(item, order)
        for item in items
        for order in balanced_orders(len(item.responses), len(item.responses), item.seed(seed))
    ]


class OutcomeReward:
    """TRL's reward function for completions of `rows`, by their outcome only.

    To shape the reward differently, change `__call__`; there is no reward for the output format, which the KL
    term preserves.
    """

    __name__ = "outcome"

    def __init__(self, profile: Profile, rows: Sequence[OrderedItem]) -> None:
        self._profile, self._rows = profile, rows

    def __call__(
        self, completions: Sequence[str], row: Sequence[int], log_metric: Any, **_: Any
    ) -> list[float]:
        """Return the reward of each completion; `row` has the index of its prompt in `rows`.

        Logs the shares of `readable` and `right` completions.
        """
        outcomes = [self.outcome(text, self._rows[i]) for text, i in zip(completions, row, strict=True)]
        log_metric("readable", fmean(outcome is not None for outcome in outcomes))
        log_metric("right", fmean(outcome is True for outcome in outcomes))
        return [1.0 if outcome else -1.0 for outcome in outcomes]

    def outcome(self, text: str, row: OrderedItem) -> bool | None:
        """Return whether the completion after the profile's opening judges right; None if unreadable."""
        n = len(row.order)
        try:
            critique = parse.parse(self._profile.opening + text, n, self._profile)
        except parse.Unreadable:
            return None
        return is_right(undo(row.order, critique.scores, n), row.item)
