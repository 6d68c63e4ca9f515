"""Queries on both databases."""

import time
from dataclasses import replace

import pytest

from grm_service.audit import entry
from grm_service.audit.queries import Queries, Search
from tests.audit.records import record, review


def ids(rows):
    return [row.id for row in rows]


def test_verdicts_are_filtered(store):
    stored = [record(i, caller="ann" if i % 2 else "bob") for i in range(1, 7)]
    store.append([entry.from_record(each) for each in stored])
    store.append([entry.from_review(review(1, "vd_3"))])
    assert ids(Queries(store.database).verdicts(Search())) == ["vd_6", "vd_5", "vd_4", "vd_3", "vd_2", "vd_1"]
    assert ids(Queries(store.database).verdicts(Search(limit=2, before=4))) == ["vd_3", "vd_2"]
    assert ids(Queries(store.database).verdicts(Search(caller="ann"))) == ["vd_5", "vd_3", "vd_1"]
    assert ids(Queries(store.database).verdicts(Search(text="qUESTION 4?"))) == ["vd_4"]
    assert ids(Queries(store.database).verdicts(Search(profile="none", status="ok"))) == []
    assert ids(Queries(store.database).verdicts(Search(reviewed=True))) == ["vd_3"]
    assert "vd_3" not in ids(Queries(store.database).verdicts(Search(reviewed=False)))
    assert [row.reviews for row in Queries(store.database).verdicts(Search(reviewed=True))] == [1]


@pytest.mark.parametrize("hostile", ["%", "_%_", "'", '"; DROP TABLE records; --', "\\", "é", "…"])
def test_search_text_is_escaped(store, hostile):
    store.append([entry.from_record(record(i)) for i in range(3)])
    assert len(Queries(store.database).verdicts(Search(text=hostile))) == (3 if hostile in "\\…" else 0)
    assert len(Queries(store.database).verdicts(Search())) == 3


def test_queue_is_ordered_by_worth(store):
    worths = {1: 0.0, 2: 1.0, 3: 3.0, 4: 1.0}
    store.append([entry.from_record(record(i, worth=worth)) for i, worth in worths.items()])
    store.append([entry.from_review(review(1, "vd_3"))])
    assert ids(Queries(store.database).queue(Search())) == ["vd_3", "vd_4", "vd_2"]
    assert ids(Queries(store.database).queue(Search(reviewed=False))) == ["vd_4", "vd_2"]


def test_hostile_search_is_linear(store):
    body = replace(record(1).task, responses=("a" * 2**21,))
    store.append([entry.from_record(record(1, task=body))])

    def seconds(text):
        began = time.perf_counter()
        assert Queries(store.database).verdicts(Search(text=text)) == []
        return time.perf_counter() - began

    short, long = min(seconds("aab") for _ in range(3)), min(seconds("a" * 199 + "b") for _ in range(3))
    assert long < 12 * short  # with LIKE, the long text takes 27 times as long on SQLite
