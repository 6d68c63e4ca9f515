"""The reward of online RL: +1 for a completion that judges right, -1 for any other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from grm_service.evaluation.dataset import Item
from grm_service.judging import parse
from grm_service.judging.orders import balanced_orders, undo
from grm_service.judging.sampler import CUT_IN_THINKING
from grm_service.profiles.profile import Profile
from grm_service.thinking import split_thinking
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

    `decode` returns the text of token ids, thinking tags included; `opened`: the prompts end in a start tag.

    To shape the reward differently, change `__call__`; there is no reward for the output format, which the KL
    term preserves.
    """

    __name__ = "outcome"

    def __init__(
        self,
        profile: Profile,
        rows: Sequence[OrderedItem],
        decode: Callable[[Sequence[int]], str],
        opened: bool = False,
    ) -> None:
        self._profile, self._rows, self._decode, self._opened = profile, rows, decode, opened

    def __call__(
        self, completion_ids: Sequence[Sequence[int]], row: Sequence[int], log_metric: Any, **_: Any
    ) -> list[float]:
        """Return the reward of each completion; `row` has the index of its prompt in `rows`.

        Logs the shares of completions that are `readable`, `right`, and `cut_in_thinking` (unreadable).
        """
        # TRL's own texts lack thinking tags that are special tokens.
        texts = map(self._decode, completion_ids)
        outcomes = [self.outcome(text, self._rows[i]) for text, i in zip(texts, row, strict=True)]
        log_metric("readable", fmean(isinstance(outcome, bool) for outcome in outcomes))
        log_metric("right", fmean(outcome is True for outcome in outcomes))
        log_metric(CUT_IN_THINKING, fmean(outcome == CUT_IN_THINKING for outcome in outcomes))
        return [1.0 if outcome is True else -1.0 for outcome in outcomes]

    def outcome(self, text: str, row: OrderedItem) -> bool | str:
        """Return whether the completion after the profile's opening judges right, or why it is unreadable."""
        n, opening = len(row.order), self._profile.opening
        thinking, answer = split_thinking(text, self._profile.thinking.tags, self._opened)
        if thinking is not None and thinking.cut:
            return CUT_IN_THINKING
        try:
            critique = parse.parse(opening + answer, n, self._profile)
        except parse.Unreadable as unreadable:
            return unreadable.reason
        return is_right(undo(row.order, critique.scores, n), row.item)
