"""How the service comes up: a server that is not there yet is waited for by `serve`, not by commands."""

import asyncio

import pytest

from grm_service.engines.scripted import ScriptedEngine
from grm_service.errors import EngineNotReady, EngineUnreachable
from grm_service.factory import open_service
from grm_service.serving import lifecycle
from grm_service.settings import Settings
from tests.waiting import until

pytestmark = pytest.mark.anyio


class Late(ScriptedEngine):
    """A server that comes up when `up` is set; `asked` counts the attempts to reach it."""

    def __init__(self):
        super().__init__("content")
        self.up = False
        self.asked = 0

    async def start(self):
        self.asked += 1
        if not self.up:
            raise EngineUnreachable("http://vllm:8000/v1 cannot be reached")
        await super().start()


@pytest.fixture
def late(monkeypatch, tmp_path):
    monkeypatch.setattr(lifecycle, "_RETRY_S", 0.01)
    made = open_service(Settings(engine="scripted", audit_url=f"sqlite:///{tmp_path}/audit.db"))
    made.engine = Late()
    return made


async def test_a_server_that_comes_up_later_is_waited_for(late, caplog):
    starting = asyncio.create_task(late.start(patient=True))
    await until(lambda: late.engine.asked >= 3)
    with pytest.raises(EngineNotReady, match="is not reachable yet"):
        late.require_ready()
    assert "http://vllm:8000/v1 cannot be reached; retrying until it answers" in caplog.messages
    late.engine.up = True
    await starting
    assert late.ready
    await late.close()


async def test_a_command_does_not_wait_for_it(late):
    with pytest.raises(EngineUnreachable):
        await late.start()
    assert late.engine.asked == 1
    await late.close()


@pytest.mark.parametrize(("profile", "warned"), [("smollm2-judge", True), ("generic-judge", False)])
def test_a_prompt_for_a_model_of_its_own_before_a_server_brings_a_warning(profile, warned, caplog, tmp_path):
    trail = {"audit_url": f"sqlite:///{tmp_path}/audit.db", "audit_key_file": tmp_path / "audit.key"}
    open_service(Settings(engine="openai", openai_base_url="http://h/v1", profile=profile, **trail))
    assert ("such as --profile generic-judge" in caplog.text) == warned
