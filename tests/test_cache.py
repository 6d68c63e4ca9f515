"""The cache is bounded in bytes and in time."""

import sys

import pytest

from grm_service import cache as module
from grm_service.cache import ByteCache, memory_size
from grm_service.types import Message, Params
from tests.audit.records import record


def test_oldest_values_make_room():
    cache = ByteCache(100, 60)
    for key in "abc":
        cache.put(key, key.upper(), 40)
    assert [cache.get(key) for key in "abc"] == [None, "B", "C"]
    assert cache.bytes == 80


def test_too_large_value_is_not_stored():
    cache = ByteCache(100, 60)
    cache.put("small", 1, 40)
    cache.put("large", 2, 101)
    assert (cache.get("small"), cache.get("large"), cache.bytes) == (1, None, 40)


def test_replaced_value_counts_once():
    cache = ByteCache(100, 60)
    for size in (60, 70):
        cache.put("key", size, size)
    assert (cache.get("key"), cache.bytes) == (70, 70)


def test_old_values_free_their_bytes(monkeypatch):
    cache = ByteCache(100, 60)
    cache.put("key", 1, 40)
    later = module.time.monotonic() + 61
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    assert cache.get("key") is None
    assert cache.bytes == 0


@pytest.mark.parametrize("text", ["a" * 10_000, "é" * 10_000, "\N{GRINNING FACE}" * 10_000])
def test_size_is_that_of_the_texts(text):
    size = memory_size((Message("user", text), [text[1:]], {"field": text[2:]}, Params(1)))
    assert 3 * sys.getsizeof(text) < size < 3.2 * sys.getsizeof(text)


def test_size_of_a_verdict_is_its_text():
    assert 1000 < memory_size(record(1)) < 20_000
