import asyncio
import contextlib

import httpx
import pytest
from asgi_lifespan import LifespanManager

from grm_service import backoff
from grm_service.api.app import create_app
from grm_service.api.dialects.registry import DialectRegistry
from grm_service.api.probes import probe_schedule
from grm_service.factory import open_policy, open_service
from grm_service.settings import Settings
from tests.api.helpers import GatedEngine, json_log


@pytest.fixture
def serve(tmp_path):
    """Return a function that serves the app in memory, used as `async with serve(...) as client`.

    The engine is scripted and the audit trail is in `tmp_path`; keyword arguments are settings.
    """
    trail = {"audit_url": f"sqlite:///{tmp_path}/audit.db", "audit_key_file": tmp_path / "audit.key"}

    @contextlib.asynccontextmanager
    async def _serve(ready=True, keys=None, hosts=None, **settings):
        chosen = Settings(**{"engine": "scripted"} | trail | settings)
        service = open_service(chosen)
        app = create_app(
            service,
            chosen.max_body_bytes,
            chosen.max_batch_bytes,
            keys,
            hosts,
            schedule=probe_schedule(chosen),
            dialects=DialectRegistry.from_settings(chosen),
            policy=open_policy(chosen, service),
        )
        async with LifespanManager(app):
            while ready and not service.ready:
                await asyncio.sleep(0.002)
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                client.service, client.probes = service, app.state.probe_runner
                client.app_state = app.state
                yield client

    return _serve


@pytest.fixture
def gated_engine(monkeypatch):
    """Make the service use a GatedEngine, and return it."""
    engine = GatedEngine()
    monkeypatch.setattr("grm_service.engines.scripted.ScriptedEngine", lambda script: engine)
    return engine


@pytest.fixture
def log_lines():
    """Return a function that reads the JSON lines logged so far."""
    with json_log() as read:
        yield read


@pytest.fixture
def short_pauses(monkeypatch):
    """Retry at once."""
    monkeypatch.setattr(backoff, "pause_s", lambda min_s, attempt: 0.01)
