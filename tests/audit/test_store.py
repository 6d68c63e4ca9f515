"""The store on both databases: concurrent writers, errors."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from grm_service.audit import entry
from grm_service.audit.chain import verify
from grm_service.audit.store import Store
from grm_service.errors import AuditUnavailable
from tests.audit.records import record


def ids(rows):
    return [row.id for row in rows]


def test_concurrent_replicas_write_one_chain(url, tmp_path):
    def replica(number):
        with contextlib.closing(Store(url, tmp_path / "key")) as store:
            store.open()
            for i in range(10):
                store.append([entry.from_record(record(f"{number}-{i}-{j}")) for j in range(3)])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(replica, range(6)))
    with contextlib.closing(Store(url, tmp_path / "key")) as store:
        store.open()
        checked = verify(store)
    assert (checked.bad, checked.records) == (None, 180)


def test_appending_is_atomic(store):
    store.append([entry.from_record(record(1))])
    with pytest.raises(AuditUnavailable):
        store.append([entry.from_record(record(2)), entry.from_record(record(1))])
    assert ids(store.all()) == ["vd_1"]
    store.append([entry.from_record(record(3))])
    assert verify(store).bad is None


def test_newer_schema_is_refused(store, url, tmp_path):
    with store.database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(AuditUnavailable, match="newer version"):
        Store(url, tmp_path / "audit.key").open()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://here/there", "not supported"),
        ("sqlite://", "must name a file"),
        ("nonsense", "cannot be used"),
    ],
)
def test_invalid_url_is_refused(url, message, tmp_path):
    with pytest.raises(AuditUnavailable, match=message):
        Store(url, tmp_path / "key")


def test_errors_hide_the_password(tmp_path):
    store = Store("postgresql://ann:secret@127.0.0.1:1/grm", tmp_path / "key")
    with pytest.raises(AuditUnavailable) as failed:
        store.open()
    assert "127.0.0.1" in str(failed.value)
    assert "secret" not in str(failed.value)


def test_key_file_is_private_and_checked(tmp_path, url):
    file = tmp_path / "folder" / "key"
    for _ in range(2):
        with contextlib.closing(Store(url, file)) as store:
            store.open()
    assert file.stat().st_mode & 0o777 == 0o600
    assert {each.name for each in file.parent.iterdir()} == {"key", "key.heads"}
    file.write_text("short")
    with pytest.raises(AuditUnavailable, match="at least 32"):
        Store(url, file).open()
