"""Whoever has the database but not the key cannot have the service vouch for a change."""

import contextlib
import json
import os
import shutil
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, insert, select, text, update

from grm_service.audit import entry
from grm_service.audit.chain import prune, prune_in_steps, verify
from grm_service.audit.ends import GENESIS
from grm_service.audit.restart import restart
from grm_service.audit.schema import anchors, records
from grm_service.audit.store import Store
from grm_service.errors import AuditBroken, AuditUnavailable, BadTask
from tests.audit.records import record, review

N = 8
LAST = records.c.seq == N


def fill(store):
    store.append([entry.from_record(record(i)) for i in range(1, N)])
    store.append([entry.from_review(review(1, "vd_3"))])


@pytest.fixture
def filled(store):
    fill(store)
    store.note()
    return store


def tamper(store, *statements):
    with store.database.writing() as connection:
        return [connection.execute(text(each) if isinstance(each, str) else each) for each in statements]


def another(store):
    """A service that starts on the same trail."""
    return contextlib.closing(Store(store.url, store.key.path))


def rewritten(store, change, first=2):
    """Statements that change a body and give the records behind it valid hashes; without the key, no seal."""
    rows = list(store.all())
    last, statements = rows[first - 2].hash, []
    for row in rows[first - 1 :]:
        body = change(row.body) if row.seq == first else row.body
        last = entry.record_hash(last, row.seq, body)
        statements.append(update(records).where(records.c.seq == row.seq).values(body=body, hash=last))
    return [*statements, head_at(len(rows), last)]


def hash_at(store, seq):
    return list(store.all())[seq - 1].hash


def head_at(seq, last, **seal):
    return update(anchors).where(anchors.c.name == "head").values(seq=seq, hash=last, **seal)


def cut_to(store, seq):
    last = hash_at(store, seq)
    return [delete(records).where(records.c.seq > seq), head_at(seq, last)]


def swapped(store):
    with store.database.reading() as connection:
        base, head = (
            dict(row._mapping)
            for row in connection.execute(
                select(anchors).where(anchors.c.name.in_(["base", "head"])).order_by(anchors.c.name)
            )
        )
    return [
        update(anchors)
        .where(anchors.c.name == name)
        .values(seq=other["seq"], hash=other["hash"], seal=other["seal"])
        for name, other in (("base", head), ("head", base))
    ]


def behind(store):
    row = list(store.all())[1]._asdict()
    last = hash_at(store, N)
    digest = entry.record_hash(last, N + 1, row["body"])
    return [insert(records).values(row | {"seq": N + 1, "id": "vd_new", "hash": digest})]


def cut_from_the_start(store):
    last = hash_at(store, 2)
    moved = update(anchors).where(anchors.c.name == "base").values(seq=2, hash=last)
    return [delete(records).where(records.c.seq <= 2), moved]


ENDS = {
    "records rewritten": lambda store: rewritten(store, lambda body: body.replace("Question", "Matter")),
    "last record removed": lambda store: [delete(records).where(LAST)],
    "trail cut short": lambda store: cut_to(store, 5),
    "record added": behind,
    "start removed": cut_from_the_start,
    "head's seal changed": lambda store: ["UPDATE anchors SET seal = 'hmac-sha256:0:0' WHERE name = 'head'"],
    "base's seal changed": lambda store: ["UPDATE anchors SET seal = 'hmac-sha256:0:é' WHERE name = 'base'"],
    "head removed": lambda store: ["DELETE FROM anchors WHERE name = 'head'"],
    "base removed": lambda store: ["DELETE FROM anchors WHERE name = 'base'"],
    "id removed": lambda store: ["DELETE FROM anchors WHERE name = 'trail'"],
    "id changed": lambda store: ["UPDATE anchors SET hash = 'trail_1' WHERE name = 'trail'"],
    "anchors removed": lambda store: [delete(anchors)],
    "anchors swapped": swapped,
    "records removed": lambda store: [delete(records)],
    "all rows removed": lambda store: [delete(records), delete(anchors)],
}
MIDDLE = {
    "body changed": lambda store: [
        "UPDATE records SET body = replace(body, 'agree', 'overrule') WHERE kind = 'review'"
    ],
    "column changed": lambda store: [update(records).where(records.c.seq == 2).values(caller="x")],
    "record removed": lambda store: [delete(records).where(records.c.seq == 2)],
    "body not canonical": lambda store: [
        update(records).where(records.c.seq == 2).values(body=records.c.body + " ")
    ],
}


on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


@on_sqlite
@pytest.mark.parametrize("change", MIDDLE)
def test_verify_detects(filled, change):
    tamper(filled, *MIDDLE[change](filled))
    with another(filled) as other:
        assert fails(other)


ON_BOTH = [("sqlite", change) for change in ENDS]
ON_BOTH += [("postgresql", change) for change in ("trail cut short", "anchors swapped")]


@pytest.mark.parametrize(("url", "change"), ON_BOTH, indirect=["url"])
def test_changed_end_is_never_extended(filled, change):
    with another(filled) as other:
        other.open()  # before the change
        tamper(filled, *ENDS[change](filled))
        for service in (filled, other):
            with pytest.raises(AuditBroken):
                service.append([entry.from_record(record(99))])
            with pytest.raises(AuditBroken):
                prune(service, datetime.now(UTC))
    with another(filled) as started, pytest.raises(AuditBroken):
        started.open()
    with another(filled) as other:
        assert fails(other), "nothing was sealed meanwhile"


@on_sqlite
@pytest.mark.parametrize("change", MIDDLE)
def test_changed_new_record_stops_a_start(filled, change):
    tamper(filled, *MIDDLE[change](filled))
    with another(filled) as started, pytest.raises(AuditBroken, match=r"record [28]"):
        started.open()


ANCHORS = {
    "seq is text": "UPDATE anchors SET seq = 'x' WHERE name = 'head'",
    "seq is beyond all": "UPDATE anchors SET seq = 9223372036854775807 WHERE name = 'head'",
    "seq is infinite": "UPDATE anchors SET seq = 9e999 WHERE name = 'base'",
    "seal is a blob": "UPDATE anchors SET seal = x'00ff' WHERE name = 'head'",
    "id is a blob": "UPDATE anchors SET hash = x'00ff' WHERE name = 'trail'",
    "no version": "DELETE FROM alembic_version",
    "two versions": "INSERT INTO alembic_version VALUES ('0001')",
}
BODIES = {
    "body is a blob": f"UPDATE records SET body = CAST(body AS BLOB) WHERE seq = {N}",
    "body is no text": f"UPDATE records SET body = CAST(x'ff' AS TEXT) WHERE seq = {N}",
}


@on_sqlite
@pytest.mark.parametrize("change", ANCHORS | BODIES)
def test_values_of_another_type_are_detected(filled, change):
    filled.close()
    tamper(filled, (ANCHORS | BODIES)[change])
    with another(filled) as started, pytest.raises(AuditBroken):
        started.open()
    with another(filled) as other:
        assert fails(other)
    with another(filled) as other:
        assert restart(other, "a test") == N + 1
        other.open()
        assert verify(other).bad is None


@on_sqlite
def test_no_chain_follows_a_forged_seq(filled):
    filled.close()
    tamper(filled, update(records).where(LAST).values(seq=2**63 - 1))
    with another(filled) as other, pytest.raises(AuditBroken, match="delete what has a seq above"):
        restart(other, "a test")


TRIGGERS = {
    "record": "CREATE TRIGGER t BEFORE INSERT ON records BEGIN SELECT RAISE(IGNORE); END",
    "anchor": "CREATE TRIGGER u BEFORE UPDATE ON anchors BEGIN SELECT RAISE(IGNORE); END",
    "hash": "CREATE TRIGGER v AFTER INSERT ON records BEGIN UPDATE records SET hash = 'x' WHERE seq > 8; END",
}


@on_sqlite
@pytest.mark.parametrize("names", [["record"], ["anchor"], ["record", "anchor"], ["hash"]])
def test_record_that_is_not_stored_is_an_error(filled, names):
    tamper(filled, *(TRIGGERS[name] for name in names))
    with pytest.raises(AuditBroken):
        filled.append([entry.from_record(record(99))])
    assert [row.seq for row in filled.all()] == list(range(1, N + 1))


@on_sqlite
def test_index_that_hides_a_record_is_detected(filled):
    index, name = "INDEX records_caller ON records (kind, caller, seq)", "records_caller"
    tamper(
        filled,
        f"DROP INDEX {name}",
        f"CREATE {index} WHERE seq <> 3",
        "PRAGMA writable_schema = 1",
        f"UPDATE sqlite_master SET sql = 'CREATE {index}' WHERE name = '{name}'",
    )
    with another(filled) as other:
        other.open_to_read()
        assert "row 3 missing from index" in verify(other).why


def test_trails_cannot_exchange_anchors(url, tmp_path):
    """Two trails of one key: the records and both ends of one, with the id of the other."""
    stores = [Store(url, tmp_path / "key"), Store(f"sqlite:///{tmp_path}/second.db", tmp_path / "key")]
    with contextlib.closing(stores[0]) as first, contextlib.closing(stores[1]) as second:
        for store, number in ((first, 2), (second, 6)):
            store.open()
            store.append([aged(i, 50) for i in range(1, number)])
        prune(second, limit())
        rows = [row._asdict() for row in second.all()]
        with second.database.reading() as connection:
            ends = [row._asdict() for row in connection.execute(select(anchors)) if row.name != "trail"]
    names = anchors.c.name.in_(["base", "head"])
    changes = [delete(records), insert(records).values(rows), delete(anchors).where(names)]
    tamper(first, *changes, insert(anchors).values(ends))
    first.close()
    with (
        contextlib.closing(Store(url, tmp_path / "key")) as started,
        pytest.raises(AuditBroken, match="sealed"),
    ):
        started.open()
    with contextlib.closing(Store(url, tmp_path / "key")) as reader:
        assert fails(reader)


@pytest.mark.parametrize("statement", ["DROP TABLE anchors", "ALTER TABLE records RENAME COLUMN caller TO x"])
def test_lost_table_stops_a_running_service(filled, statement):
    tamper(filled, statement)
    with pytest.raises(AuditBroken):
        filled.append([entry.from_record(record(99))])


@on_sqlite
def test_broken_trail_of_an_older_version_is_restarted(filled):
    filled.close()
    tamper(
        filled,
        "DROP INDEX records_caller",
        "ALTER TABLE records DROP COLUMN summary",
        "UPDATE alembic_version SET version_num = '0001'",
        "UPDATE records SET body = replace(body, 'Question', 'Matter') WHERE seq = 2",
    )
    with another(filled) as other, pytest.raises(AuditUnavailable, match="start its service once"):
        restart(other, "a test")
    with another(filled) as started, pytest.raises(AuditBroken, match="record 2"):
        started.open()
    with another(filled) as other:
        assert restart(other, "a test") == N + 1


def fails(store):
    """Whether a process that only reads finds the trail broken."""
    try:
        store.open_to_read()
        return verify(store).bad is not None
    except AuditBroken:
        return True


@on_sqlite
@pytest.mark.parametrize("tables", [["records"], ["anchors"], ["records", "anchors", "alembic_version"]])
def test_dropped_tables_are_not_created_again(filled, tables):
    filled.close()
    tamper(filled, *(f"DROP TABLE {name}" for name in tables))
    with another(filled) as started, pytest.raises(AuditBroken, match="tables"):
        started.open()
    with another(filled) as other:
        assert fails(other)


def test_older_state_with_its_seals_is_detected(filled):
    with filled.database.reading() as connection:
        old = [dict(row._mapping) for row in connection.execute(select(anchors))]
    filled.append([entry.from_record(record(50))])
    filled.close()
    back = [update(anchors).where(anchors.c.name == row["name"]).values(**row) for row in old]
    tamper(filled, delete(records).where(records.c.seq > N), *back)
    with another(filled) as other:
        assert fails(other)
    with another(filled) as started, pytest.raises(AuditBroken, match="had records up to 9"):
        started.open()


@pytest.mark.parametrize("double", ['{"data":{},', '{"kind":"review",'])
def test_double_keys_are_not_valid(double):
    body = entry.from_record(record(2)).body
    with pytest.raises(ValueError, match="canonical"):
        entry.parse(double + body[1:])


@on_sqlite
def test_nested_body_is_a_fault(store):
    body = "[" * 100_000
    digest = entry.record_hash(GENESIS, 1, body)
    row = entry.from_record(record(1))
    fields = {name: getattr(row, name) for name in entry.Entry.__slots__} | {"body": body}
    tamper(store, insert(records).values(seq=1, hash=digest, **fields), head_at(1, digest))
    assert "canonical JSON" in verify(store).why


@on_sqlite
def test_review_of_no_verdict_is_detected(filled):
    filled.append([entry.from_review(review(2, "vd_none"))])
    assert (verify(filled).bad, verify(filled).id) == (N + 1, "rv_2")


def test_two_records_with_one_id_are_detected(filled, url):
    if url.startswith("sqlite"):
        columns = ", ".join(records.c.keys())
        tamper(
            filled,
            "CREATE TABLE copied AS SELECT * FROM records",
            "DROP TABLE records",
            f"CREATE TABLE records AS SELECT {columns} FROM copied",
        )  # without its constraints
    else:
        tamper(filled, "ALTER TABLE records DROP CONSTRAINT records_id_key")
    filled.append([entry.from_record(record(2))])
    assert "same id" in verify(filled).why


def test_trail_without_an_id_is_opened(filled):
    """A trail of an older version has no id, and no heads beside its key."""
    before = verify(filled)
    filled.close()
    sealed = filled.key.seal
    tamper(
        filled,
        "DELETE FROM anchors WHERE name = 'trail'",
        update(anchors).where(anchors.c.name == "base").values(seal=sealed("base", 0, GENESIS)),
        head_at(N, before.hash, seal=sealed("head", N, before.hash)),
    )
    filled.heads.path.unlink()
    with another(filled) as reader:
        reader.open_to_read()
        assert verify(reader).bad is None
    with another(filled) as started:
        started.open()
        started.append([entry.from_record(record(51))])
        assert verify(started, (before.head, before.hash)).bad is None
        assert started.heads.path.exists()


def aged(number, days):
    return entry.from_record(record(number, created=datetime.now(UTC) - timedelta(days)))


def limit(days=45):
    return datetime.now(UTC) - timedelta(days)


@on_sqlite
def test_forged_time_does_not_remove_records(store):
    store.append([aged(i, 5) for i in range(1, 5)])
    tamper(store, update(records).values(created="2020-01-01T00:00:00Z").where(records.c.seq <= 3))
    with pytest.raises(AuditBroken, match="columns that differ"):
        prune(store, limit())
    assert len(list(store.all())) == 4


@on_sqlite
def test_removed_checkpoint_is_detected(store):
    store.append([aged(i, 100 - 10 * i) for i in range(1, 9)])
    with store.database.reading() as connection:
        head = dict(connection.execute(select(anchors).where(anchors.c.name == "head")).one()._mapping)
    prune(store, limit())
    store.close()
    store.heads.path.unlink()
    tamper(
        store,
        "DELETE FROM records WHERE kind = 'checkpoint'",
        head_at(head["seq"], head["hash"], seal=head["seal"]),
    )
    with another(store) as other:
        other.open_to_read()
        assert "no checkpoint" in verify(other).why


@on_sqlite
def test_removal_goes_in_steps(store):
    store.append([aged(i, 50) for i in range(1, 251)])
    steps = prune_in_steps(store, limit())
    for removed in (100, 100, 50):
        assert next(steps) == removed
        store.append([aged(1000 + store.heads.at(store.database.place).seq, 1)])
        assert verify(store).bad is None
    assert list(steps) == []
    assert [row.kind for row in store.all()] == ["checkpoint", "verdict"] * 3


@on_sqlite
def test_future_records_do_not_stop_retention(store):
    store.append([aged(1, 100), aged(2, -4000), aged(3, 90), aged(4, 5), aged(5, -4000)])
    assert prune(store, limit()) == 3
    assert [row.id for row in store.all()][:2] == ["vd_4", "vd_5"]
    assert verify(store).bad is None


@on_sqlite
def test_future_records_alone_are_left(store):
    store.append([aged(1, 100), aged(2, -4000)])
    assert prune(store, limit()) == 1
    assert prune(store, limit()) == 0


def test_reading_writes_nothing(tmp_path):
    folder, key = tmp_path / "trail", tmp_path / "key" / "audit.key"
    reader = Store(f"sqlite:///{folder}/audit.db", key)
    with pytest.raises(AuditUnavailable, match="no audit key"):
        reader.open_to_read()
    assert list(tmp_path.iterdir()) == []
    with contextlib.closing(Store(f"sqlite:///{tmp_path}/other/audit.db", key)) as writer:
        writer.open()
        fill(writer)
    with pytest.raises(AuditUnavailable, match="no audit trail"):
        reader.open_to_read()
    before = contents(tmp_path)
    with contextlib.closing(Store(f"sqlite:///{tmp_path}/other/audit.db", key)) as other:
        other.open_to_read()
        assert verify(other).records == N
        with pytest.raises(AuditUnavailable):
            tamper(other, delete(records))
    assert contents(tmp_path) == before


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@on_sqlite
def test_empty_database_is_not_a_trail(url, tmp_path):
    key = tmp_path / "audit.key"
    key.write_text("k" * 64)
    (tmp_path / "audit.db").touch()
    with (
        contextlib.closing(Store(url, key)) as reader,
        pytest.raises(AuditUnavailable, match="no audit trail"),
    ):
        reader.open_to_read()


@on_sqlite
def test_another_place_is_another_trail(filled, tmp_path):
    with contextlib.closing(Store(f"sqlite:///{tmp_path}/another.db", filled.key.path)) as second:
        second.open()
        second.append([entry.from_record(record(1))])
        assert verify(second).bad is None
    filled.close()
    assert verify(filled).bad is None


def test_moved_trail_is_known_by_its_id(tmp_path):
    first, moved = tmp_path / "a.db", tmp_path / "b.db"
    with contextlib.closing(Store(f"sqlite:///{first}", tmp_path / "key")) as store:
        store.open()
        fill(store)
    shutil.copy(first, tmp_path / "old.db")
    with contextlib.closing(Store(f"sqlite:///{first}", tmp_path / "key")) as store:
        store.open()
        store.append([entry.from_record(record(20))])
    first.rename(moved)
    with contextlib.closing(Store(f"sqlite:///{moved}", tmp_path / "key")) as store:
        store.open()
        assert verify(store).bad is None
    restored = Store(f"sqlite:///{tmp_path}/old.db", tmp_path / "key")
    with pytest.raises(AuditBroken, match="had records up to 9"):
        restored.open()


@on_sqlite
def test_edited_heads_are_detected(filled):
    path = filled.heads.path
    path.write_text(path.read_text().replace(f'"seq": {N}', '"seq": 1'))
    with another(filled) as started, pytest.raises(AuditBroken, match="not sealed"):
        started.open()


@on_sqlite
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b'{"heads":[],"seal":1}', b"[" * 100_000])
def test_heads_of_any_content_are_a_break(filled, content):
    filled.heads.path.write_bytes(content)
    with another(filled) as started, pytest.raises(AuditBroken, match="not sealed"):
        started.open()


@on_sqlite
@pytest.mark.parametrize("suffix", ["", ".heads"])
def test_fifo_does_not_stop_a_start_for_ever(filled, suffix):
    path = filled.key.path.with_name(f"{filled.key.path.name}{suffix}")
    path.unlink()
    os.mkfifo(path)
    with another(filled) as started, pytest.raises(AuditUnavailable, match="no regular file"):
        started.open()


@on_sqlite
def test_heads_are_optional(filled, monkeypatch, caplog):
    def refuse(*args):
        raise PermissionError("read-only file system")

    monkeypatch.setattr("grm_service.audit.heads.write_atomically", refuse)
    for i in range(3):
        filled.append([entry.from_record(record(60 + i))])
        filled.note()
    assert caplog.text.count("cannot be noted") == 1


@on_sqlite
def test_noted_head_never_moves_back(filled):
    newer = filled.heads.at(filled.database.place)
    with another(filled) as other:
        other.open()
        other.append([entry.from_record(record(70))])
    filled.heads.note("elsewhere", newer)
    assert filled.heads.of(newer.trail).seq == N + 1


def test_files_are_private(tmp_path):
    folder = tmp_path / "new"
    with contextlib.closing(Store(f"sqlite:///{folder}/a.db", folder / "a.key")) as store:
        store.open()
        fill(store)
        store.note()
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == dict.fromkeys(["a.db", "a.db-wal", "a.db-shm", "a.key", "a.key.heads"], 0o600)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_open_files_are_made_private(tmp_path, caplog):
    for _ in range(2):
        with contextlib.closing(Store(f"sqlite:///{tmp_path}/a.db", tmp_path / "a.key")) as store:
            store.open()
        for path in tmp_path.glob("a.*"):
            path.chmod(0o644)
    with contextlib.closing(Store(f"sqlite:///{tmp_path}/a.db", tmp_path / "a.key")) as store:
        store.open()
    assert (tmp_path / "a.db").stat().st_mode & 0o777 == 0o600
    assert "open to other users (mode 644)" in caplog.text


def test_intact_trail_is_not_restarted(filled):
    filled.close()
    with another(filled) as other, pytest.raises(BadTask, match="valid"):
        restart(other, "no reason")
    with another(filled) as other:
        assert restart(other, "a move to other keepers", intact=True) == N + 1


@pytest.mark.parametrize(
    "change", ["records rewritten", "all rows removed", "trail cut short", "body changed"]
)
def test_restart_leaves_evidence(filled, change):
    filled.close()
    tamper(filled, *(ENDS | MIDDLE)[change](filled))
    with another(filled) as other:
        first = restart(other, "looked at by ann")
        assert first == N + 1, "no seq is used twice"
    with another(filled) as started:
        started.open()
        started.append([entry.from_record(record(80))])
        checked = verify(started)
        rows = list(started.all())
    assert (checked.bad, checked.first, checked.records) == (None, N + 1, 2)
    said = json.loads(rows[checked.before].body)["data"]
    assert said["reason"] == "looked at by ann"
    assert said["broken"]
    assert said["noted"]["seq"] == N
    assert said["user"]
    tamper(filled, "DELETE FROM records WHERE seq = 2" if checked.before else behind_nothing(rows[-1]))
    with another(filled) as reader:
        reader.open_to_read()
        assert "before the start" in verify(reader).why


def behind_nothing(row):
    return insert(records).values(row._asdict() | {"seq": 3, "id": "vd_forged"})


def test_restart_after_lost_file(tmp_path):
    file, key = tmp_path / "a.db", tmp_path / "a.key"
    with contextlib.closing(Store(f"sqlite:///{file}", key)) as store:
        store.open()
        fill(store)
    file.unlink()
    with (
        contextlib.closing(Store(f"sqlite:///{file}", key)) as store,
        pytest.raises(AuditBroken, match="gone"),
    ):
        store.open()
    assert not file.exists()
    with contextlib.closing(Store(f"sqlite:///{file}", key)) as store:
        assert restart(store, "the disk was lost") == N + 1
    with contextlib.closing(Store(f"sqlite:///{file}", key)) as store:
        store.open()
        assert verify(store).bad is None


def test_service_that_ran_through_a_restart_stops(filled):
    with another(filled) as other:
        restart(other, "a test", intact=True)
    with pytest.raises(AuditBroken, match="not the trail that was there"):
        filled.append([entry.from_record(record(81))])
    filled.close()
    with another(filled) as started:
        started.open()


@on_sqlite
def test_retention_removes_what_was_before_a_restart(filled):
    filled.close()
    with another(filled) as other:
        restart(other, "a test", intact=True)
    with another(filled) as started:
        started.open()
        started.append([entry.from_record(record(90))])
        assert prune(started, datetime.now(UTC) + timedelta(1)) == 2
        assert [row.kind for row in started.all()] == ["checkpoint"]
        assert verify(started).bad is None
