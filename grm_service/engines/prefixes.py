"""Which prompts to hold back for a moment, so that what several share is computed once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
_KEPT = 256


class Prefixes:
    """Prompts (token ids) whose keys and values a prefix-sharing cache should still have.

    `block` is the number of tokens that such a cache shares or does not.
    """

    def __init__(self, block: int) -> None:
        self._block = block
        self._warm: OrderedDict[bytes, Ids] = OrderedDict()

    def computed(self, ids: Ids) -> None:
        """This prompt has been through the model."""
        self._warm[ids.tobytes()] = ids
        while len(self._warm) > _KEPT:
            self._warm.popitem(last=False)

    def worth_waiting(self, ids: Ids, computing: Iterable[Ids]) -> bool:
        """Whether a prompt that is being computed just now will spare this one a quarter or more.

        Begun together, each would compute the common part for itself.
        """
        least = max(self._block, len(ids) // 4)
        soon = max((shared(other, ids) for other in computing), default=0)
        return soon >= least and soon - self._known(ids) >= least

    def cold(self, ids: Ids) -> bool:
        """Whether a block or more of a prompt has still to be computed."""
        return len(ids) - self._known(ids) > self._block

    def _known(self, ids: Ids) -> int:
        return max((shared(warm, ids) for warm in self._warm.values()), default=0)


def shared(one: Ids, other: Ids) -> int:
    """How many tokens two prompts have in common from their start."""
    size = min(len(one), len(other))
    differ = one[:size] != other[:size]
    return int(differ.argmax()) if differ.any() else size
