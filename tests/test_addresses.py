"""Passwords in addresses are shown to nobody."""

import pytest

from grm_service.addresses import without_credentials
from grm_service.audit.database import Database
from grm_service.audit.store import Store
from grm_service.engines.remote.openai import OpenAIEngine
from grm_service.errors import AuditUnavailable, EngineError
from grm_service.factory import open_service
from grm_service.settings import Settings


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:pw@host:8000/v1", "http://host:8000/v1"),
        ("http://:pw@host", "http://host"),
        ("http://token@host/v1", "http://host/v1"),
        ("http://u:p@ss@host/v1", "http://host/v1"),
        ("http://a:b@one/v1,http://c:d@two/v1", "http://one/v1,http://two/v1"),
        ("proxy http://a:b@one is away", "proxy http://one is away"),
        ("http://host/v1/@scope?mail=a@b", "http://host/v1/@scope?mail=a@b"),
        ("http://host", "http://host"),
        ("http://u:p/w@host/v1", "http://host/v1"),
        ("http://u:p?w@host/v1", "http://host/v1"),
        ("http://u:p#w@host/v1", "http://host/v1"),
        ("http://u:p w@host/v1", "http://host/v1"),
        ("http://host:80/v1/@scope", "http://host:80/v1/@scope"),
        ("no address: a@b", "no address: a@b"),
    ],
)
def test_credentials_are_left_out(text, shown):
    assert without_credentials(text) == shown


@pytest.mark.anyio
@pytest.mark.parametrize(
    "url",
    ["http://u:pw@127.0.0.1:9/v1", "http://u:pw@host:port/v1", "u:pw@host", "http://u:pw/x@host/v1"],
)
async def test_failed_start_shows_no_password(url, no_pauses):
    engine = OpenAIEngine(url, "m", timeout_s=5)
    with pytest.raises(EngineError) as caught:
        await engine.start()
    await engine.close()
    assert "pw" not in str(caught.value)


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr("grm_service.backoff.pause_s", lambda min_s, attempt: 0)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:pw@host:port/x",
        "mysql://u:pw@host/x",
        "u:pw@host",
        "postgresql://u:x@pw@host/x",
        "postgresql://u:x@y:pw@host/x",
    ],
)
def test_audit_url_shows_no_password(url, tmp_path):
    with pytest.raises(AuditUnavailable) as caught:
        Store(url, tmp_path / "key")
    assert "pw" not in str(caught.value)


def test_password_in_the_query_is_not_shown():
    assert "pw" not in Database("postgresql://host/x?password=pw").name


def test_settings_show_no_password(tmp_path, caplog):
    names = ("openai_base_url", "policy_url", "meta_rm_url")
    settings = Settings(
        engine="openai",
        audit_url=f"sqlite:///{tmp_path}/pw.db",
        audit_key_file=tmp_path / "key",
        **dict.fromkeys(names, "http://u:pw@a/v1"),
        profile="smollm2-judge",
    )
    service = open_service(settings)
    assert "pw" not in repr(settings)
    assert "pw" not in caplog.text
    assert service.profile.meta_rm == "http://a/v1"


def test_pool_names_servers_without_passwords(tmp_path):
    urls = "http://u:pw@a/v1, http://u:pw@b/v1"
    trail = {"audit_url": f"sqlite:///{tmp_path}/a.db", "audit_key_file": tmp_path / "key"}
    service = open_service(Settings(engine="openai", openai_base_url=urls, **trail))
    assert str(service.engine._none_up()) == "none of http://a/v1, http://b/v1 can be reached"
