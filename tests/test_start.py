"""Startup: the address is bound first, and `grm serve` waits for a model server that is not up yet."""

import asyncio
import socket

import pytest
from typer.testing import CliRunner

from grm_service.cli import app
from grm_service.engines.scripted import ScriptedEngine
from grm_service.errors import EngineNotReady, EngineUnreachable
from grm_service.factory import open_service
from grm_service.serving import lifecycle
from grm_service.settings import Settings
from tests.waiting import until

pytestmark = pytest.mark.anyio


class LateEngine(ScriptedEngine):
    """An engine whose server is unreachable until `up` is set; `attempts` counts the tries."""

    def __init__(self):
        super().__init__("content")
        self.up = False
        self.attempts = 0

    async def start(self):
        self.attempts += 1
        if not self.up:
            raise EngineUnreachable("http://vllm:8000/v1 cannot be reached")
        await super().start()


@pytest.fixture
def late(monkeypatch, tmp_path):
    monkeypatch.setattr(lifecycle, "_RETRY_S", 0.01)
    late_service = open_service(Settings(engine="scripted", audit_url=f"sqlite:///{tmp_path}/audit.db"))
    late_service.engine = LateEngine()
    return late_service


async def test_serve_waits_for_a_late_server(late, caplog):
    starting = asyncio.create_task(late.start(patient=True))
    await until(lambda: late.engine.attempts >= 3)
    with pytest.raises(EngineNotReady, match="is not reachable yet"):
        late.require_ready()
    assert "http://vllm:8000/v1 cannot be reached; retrying until it answers" in caplog.messages
    late.engine.up = True
    await starting
    assert late.ready
    await late.close()


async def test_command_does_not_wait(late):
    with pytest.raises(EngineUnreachable):
        await late.start()
    assert late.engine.attempts == 1
    await late.close()


def test_taken_port_is_one_line_before_the_model_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["serve", "--engine", "scripted", "--port", str(port)])
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: cannot listen on 127.0.0.1, port {port}: address already in use; "
        "choose another address with --host and --port\n"
    )


@pytest.mark.parametrize(("profile", "warned"), [("smollm2-judge", True), ("generic-judge", False)])
def test_default_profile_with_a_server_warns(profile, warned, caplog, tmp_path):
    trail = {"audit_url": f"sqlite:///{tmp_path}/audit.db", "audit_key_file": tmp_path / "audit.key"}
    open_service(Settings(engine="openai", openai_base_url="http://h/v1", profile=profile, **trail))
    assert ("such as --profile generic-judge" in caplog.text) == warned
