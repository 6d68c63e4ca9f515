"""Any change to the stored trail is detected and located."""

import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update

from grm_service.audit import entry
from grm_service.audit.chain import prune, verify
from grm_service.audit.compare import differences
from grm_service.audit.schema import anchors, records
from grm_service.audit.store import Store
from grm_service.errors import AuditBroken, AuditUnavailable
from grm_service.types import Thinking
from tests.audit.records import record, review

N = 12


@pytest.fixture
def filled(store):
    store.append([entry.from_record(record(i)) for i in range(1, N)])
    store.append([entry.from_review(review(1, "vd_3", "overrule", ranking=(2, 1)))])
    return store


def tamper(store, *statements):
    with store.database.writing() as connection:
        for statement in statements:
            connection.execute(statement)


@contextlib.contextmanager
def opened_to_read(store):
    """Another process on the same trail, which knows only what is stored."""
    with contextlib.closing(Store(store.url, store.key.path)) as other:
        other.open_to_read()
        yield other


def swap(store, one, two):
    bodies = {row.seq: row for row in store.all()}
    moved = [
        update(records)
        .where(records.c.seq == here)
        .values(
            **{name: value for name, value in bodies[there]._mapping.items() if name != "seq"}
            | {"id": f"x{here}"}
        )
        for here, there in ((one, two), (two, one))
    ]
    put_back = [
        update(records).where(records.c.seq == here).values(id=bodies[there].id)
        for here, there in ((one, two), (two, one))
    ]
    tamper(store, *moved, *put_back)


def test_untouched_trail_verifies(filled):
    checked = verify(filled)
    assert (checked.bad, checked.records, checked.first, checked.head) == (None, N, 1, N)


def test_empty_trail_verifies(store):
    assert verify(store).bad is None


@pytest.mark.parametrize("seq", [1, 2, 7, N - 1, N])
def test_changed_body_is_reported(filled, seq):
    body = next(row.body for row in filled.all() if row.seq == seq)
    tamper(filled, update(records).where(records.c.seq == seq).values(body=body.replace("4.0", "9.0") + " "))
    assert verify(filled).bad == seq


@pytest.mark.parametrize(
    "column", ["id", "kind", "created", "caller", "profile", "status", "worth", "subject"]
)
def test_changed_column_is_reported(filled, column):
    value = 99.0 if column == "worth" else "changed"
    tamper(filled, update(records).where(records.c.seq == 5).values({column: value}))
    checked = verify(filled)
    assert (checked.bad, column in checked.why) == (5, True)


@pytest.mark.parametrize("seq", [1, 6, N - 1, N])
def test_removed_record_is_reported(filled, seq):
    tamper(filled, delete(records).where(records.c.seq == seq))
    checked = verify(filled)
    assert checked.bad == seq
    assert "missing" in checked.why


def test_truncated_trail_is_reported(filled):
    tamper(filled, delete(records).where(records.c.seq > N - 3))
    assert verify(filled).bad == N - 2


def test_inserted_record_is_reported(filled):
    added = entry.from_record(record(99))
    row = {"seq": N + 1, "hash": entry.record_hash("?", N + 1, added.body)}
    fields = {name: getattr(added, name) for name in entry.Entry.__slots__}
    tamper(filled, insert(records).values(**row, **fields))
    assert verify(filled).bad == N + 1


@pytest.mark.parametrize(("one", "two"), [(1, 2), (3, 9), (N - 1, N)])
def test_reordered_records_are_reported(filled, one, two):
    swap(filled, one, two)
    assert verify(filled).bad == one


def test_rewrite_without_the_key_is_detected(filled, tmp_path):
    rows = list(filled.all())
    changed = rows[4].body.replace("an analysis", "no analysis")
    assert changed != rows[4].body
    last, statements = rows[3].hash, []
    for row in rows[4:]:
        body = changed if row.seq == 5 else row.body
        last = entry.record_hash(last, row.seq, body)
        statements.append(update(records).where(records.c.seq == row.seq).values(body=body, hash=last))
    tamper(filled, *statements, update(anchors).where(anchors.c.name == "head").values(hash=last))
    assert "noted" in verify(filled).why
    with pytest.raises(AuditBroken):
        filled.append([entry.from_record(record(51))])
    filled.heads.path.unlink()
    with opened_to_read(filled) as other:
        assert "sealed" in verify(other).why


def test_rollback_is_detected_by_noted_head(filled):
    before = verify(filled)
    with filled.database.reading() as connection:
        head = connection.execute(select(anchors).where(anchors.c.name == "head")).one()
    filled.append([entry.from_record(record(50))])
    noted = verify(filled)
    back = (
        update(anchors).where(anchors.c.name == "head").values(hash=head.hash, seq=head.seq, seal=head.seal)
    )
    tamper(filled, delete(records).where(records.c.seq == N + 1), back)
    assert verify(filled).bad == N + 1
    with pytest.raises(AuditBroken, match="had records up to"):
        filled.append([entry.from_record(record(51))])
    filled.heads.path.unlink()
    with opened_to_read(filled) as older:
        assert verify(older).bad is None, "the older state itself is valid"
        assert verify(older, (noted.head, noted.hash)).bad == N + 1
        assert verify(older, (before.head, before.hash)).bad is None


def test_lost_anchors_are_an_error(filled):
    tamper(filled, delete(anchors))
    with pytest.raises(AuditUnavailable, match="anchors"):
        verify(filled)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_character_is_detected(tmp_path_factory, data):
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('any')}/a.db", tmp_path_factory.mktemp("any") / "key")
    store.open()
    store.append([entry.from_record(record(i)) for i in range(1, 4)])
    seq = data.draw(st.integers(1, 3))
    row = next(row for row in store.all() if row.seq == seq)
    column = data.draw(st.sampled_from(["body", "hash"]))
    text = getattr(row, column)
    at = data.draw(st.integers(0, len(text) - 1))
    put = data.draw(st.characters(blacklist_categories=["Cs"], blacklist_characters=["\x00", text[at]]))
    tamper(
        store, update(records).where(records.c.seq == seq).values({column: text[:at] + put + text[at + 1 :]})
    )
    assert verify(store).bad == seq
    store.close()


def aged(number, days):
    return entry.from_record(record(number, created=datetime.now(UTC) - timedelta(days)))


def test_pruned_trail_verifies_with_checkpoint(store):
    store.append([aged(i, 100 - 10 * i) for i in range(1, 9)])
    assert prune(store, datetime.now(UTC) - timedelta(45)) == 5
    checked = verify(store)
    assert (checked.bad, checked.first, checked.records) == (None, 6, 4)
    checkpoint = json.loads(list(store.all())[-1].body)
    assert checkpoint["kind"] == "checkpoint"
    assert (checkpoint["data"]["first"], checkpoint["data"]["last"]) == (1, 5)
    store.append([aged(20, 0)])
    assert prune(store, datetime.now(UTC) - timedelta(45)) == 0
    assert verify(store).bad is None


def test_retention_may_remove_everything(store):
    store.append([aged(i, 10) for i in range(1, 4)])
    assert prune(store, datetime.now(UTC) - timedelta(5)) == 3
    assert [row.kind for row in store.all()] == ["checkpoint"]
    assert verify(store).bad is None


def test_gap_after_retention_is_detected(store):
    store.append([aged(i, 100 - 10 * i) for i in range(1, 9)])
    prune(store, datetime.now(UTC) - timedelta(45))
    tamper(store, delete(records).where(records.c.seq == 6))
    assert verify(store).bad == 6
    row = next(iter(store.all()))
    moved = update(anchors).where(anchors.c.name == "base").values(seq=6, hash="sha256:" + "0" * 64)
    tamper(store, moved)
    assert verify(store).bad is not None, row


def test_another_key_is_refused(store, url, tmp_path):
    with pytest.raises(AuditUnavailable, match="sealed with another key"):
        Store(url, tmp_path / "another.key").open()


def test_records_round_trip():
    original = replace(record(1), reasons=("tie",), worth=1.0, caller="ann")
    assert entry.to_record(entry.from_record(original).body) == original
    rated = review(1, "vd_1", "overrule", scores=(1.0, 2.5), note="…")
    assert entry.to_review(entry.from_review(rated).body) == rated


@pytest.mark.parametrize("thinking", [None, Thinking("so…", True, ("[THINK]", "[/THINK]")), Thinking("")])
def test_thinking_round_trips(thinking):
    original = with_thinking(record(1), thinking)
    assert entry.to_record(entry.from_record(original).body) == original


def test_records_without_thinking_are_read(store):
    # Written before samples had thinking and tasks thinking_tokens.
    body = json.loads(entry.from_record(record(1)).body)
    del body["data"]["task"]["thinking_tokens"]
    for sample in body["data"]["verdict"]["samples"]:
        for name in ("thinking", "closed_reason", "soft_error"):
            del sample[name]
    old = entry.parse(entry.canonical_json(body))
    assert entry.to_record(old.body) == record(1)
    newer = [with_thinking(record(n), Thinking(f"thought {n}")) for n in (2, 3)]
    store.append([old, entry.from_record(newer[0]), entry.from_record(newer[1], store_text=False)])
    assert verify(store).bad is None


def test_thinking_can_be_hashed():
    thought = with_thinking(record(1), Thinking("privately thought", True, ("<a>", "</a>")))
    body = entry.from_record(thought, store_text=False).body
    assert "privately" not in body
    hashed = entry.to_record(body).verdict.samples[0].thinking
    assert hashed.text.startswith("sha256:")
    assert (hashed.cut, hashed.tags) == (True, ("<a>", "</a>"))


def test_differences_name_the_thinking():
    first, again = (with_thinking(record(1), Thinking(text)).verdict for text in ("so", "thus"))
    assert list(differences(first, first)) == []
    assert list(differences(first, again)) == [f"sample {i}: thinking differs" for i in range(2)]


def with_thinking(original, thinking):
    samples = tuple(replace(each, thinking=thinking) for each in original.verdict.samples)
    return replace(original, verdict=replace(original.verdict, samples=samples))


def test_texts_can_be_hashed():
    body = entry.from_record(record(1), store_text=False).body
    assert not entry.has_text(body)
    for text in ("Question", "one", "two", "an analysis", "answers", "boxed"):
        assert f'"{text}' not in body
        assert f"{text} " not in body
    hashed = entry.to_record(body)
    assert hashed.verdict.vote == record(1).verdict.vote
    assert hashed.task.responses[0].startswith("sha256:")
