"""A cache bounded in bytes and in time, for results that hold texts of callers."""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")
_SMALL = (int, float, type(None))
_SMALL_BYTES = 32


class ByteCache(Generic[T]):
    """Values of at most `max_bytes` in all, each for `ttl_s` seconds; the oldest make room for new ones."""

    def __init__(self, max_bytes: int, ttl_s: float) -> None:
        self._max_bytes, self._ttl_s = max_bytes, ttl_s
        self._entries: OrderedDict[Hashable, tuple[T, int, float]] = OrderedDict()
        self.bytes = 0

    def get(self, key: Hashable) -> T | None:
        """Return the value of a key, None if there is none or it is too old."""
        self._expire()
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def put(self, key: Hashable, value: T, size: int) -> None:
        """Store a value of `size` bytes (see `memory_size`); one that is too large is not stored."""
        self.remove(key)
        self._expire()
        if size > self._max_bytes:
            return
        while self.bytes + size > self._max_bytes:
            self.remove(next(iter(self._entries)))
        self._entries[key] = value, size, time.monotonic()
        self.bytes += size

    def remove(self, key: Hashable) -> None:
        """Remove a key, if it is stored."""
        if (entry := self._entries.pop(key, None)) is not None:
            self.bytes -= entry[1]

    def _expire(self) -> None:
        oldest_valid = time.monotonic() - self._ttl_s
        while self._entries:
            key, (_, _, stored) = next(iter(self._entries.items()))
            if stored > oldest_valid:
                return
            self.remove(key)


def memory_size(value: object) -> int:
    """Return about how many bytes a value of dataclasses, sequences, mappings and texts takes in memory."""
    total, pending = 0, [value]
    while pending:
        each = pending.pop()
        total += sys.getsizeof(each)
        if isinstance(each, Mapping):
            parts = [*each.keys(), *each.values()]
        elif isinstance(each, (tuple, list)):
            parts = [*each]
        else:
            parts = [getattr(each, name) for name in getattr(each, "__dataclass_fields__", ())]
        # Most parts are numbers: counted together, they take a fraction of the time.
        pending += [part for part in parts if not isinstance(part, _SMALL)]
        total += _SMALL_BYTES * len(parts)
    return total
