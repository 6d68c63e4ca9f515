"""Scheduling of prompts with a common prefix, so that a prefix-sharing KV cache computes it only once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

TokenIds = NDArray[np.int64]
_MAX_PROMPTS = 256


class PrefixTracker:
    """The recent prompts (token ids) whose keys and values a prefix-sharing cache should still hold.

    `block` is the number of tokens in a block of that cache: it shares whole blocks only.
    """

    def __init__(self, block: int) -> None:
        self._block = block
        self._computed: OrderedDict[bytes, TokenIds] = OrderedDict()

    def mark_computed(self, ids: TokenIds) -> None:
        """Record that a prompt has been prefilled."""
        self._computed[ids.tobytes()] = ids
        while len(self._computed) > _MAX_PROMPTS:
            self._computed.popitem(last=False)

    def should_wait(self, ids: TokenIds, prefilling: Iterable[TokenIds]) -> bool:
        """Return True if a prompt that is prefilling now will save this one a quarter of its prefill or more.

        If both started together, each would compute the common prefix itself.
        """
        min_tokens = max(self._block, len(ids) // 4)
        expected = max((common_prefix_length(other, ids) for other in prefilling), default=0)
        return expected >= min_tokens and expected - self._cached_tokens(ids) >= min_tokens

    def needs_prefill(self, ids: TokenIds) -> bool:
        """Return True if more than a block of the prompt is not in the cache yet."""
        return len(ids) - self._cached_tokens(ids) > self._block

    def _cached_tokens(self, ids: TokenIds) -> int:
        return max((common_prefix_length(other, ids) for other in self._computed.values()), default=0)


def common_prefix_length(one: TokenIds, other: TokenIds) -> int:
    """Return the number of tokens that two prompts have in common from their start."""
    size = min(len(one), len(other))
    differ = one[:size] != other[:size]
    return int(differ.argmax()) if differ.any() else size
