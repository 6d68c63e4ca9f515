"""Isolated engines: calls, errors and logs across the process boundary, crashes and restarts."""

import asyncio
import logging
import os
import signal
from functools import partial

import pytest

from grm_service.engines.isolated import IsolatedEngine
from grm_service.engines.scripted import ScriptedEngine
from grm_service.errors import EngineError, EngineUnreachable, MissingExtra, ModelNotLoaded, PromptTooLong
from grm_service.types import Message, Params, Prompt
from tests.waiting import HANG_S

pytestmark = pytest.mark.anyio
ASK = Prompt((Message("user", "Hello"),))


class Fragile(ScriptedEngine):
    """Does what the message says. It runs in the child process, so it must be importable."""

    def __init__(self, at_start=None):
        super().__init__(lambda prompt, params: f"{os.getpid()}")
        self.at_start = at_start

    async def start(self):
        logging.getLogger("fragile").warning("a log record")
        if self.at_start is not None:
            raise self.at_start

    async def complete(self, prompt, params):
        match prompt.messages[-1].content:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "too long":
                raise PromptTooLong(9000, 100, 8192)
            case "bug":
                raise KeyError("surprise")
            case "print":
                os.write(1, b"native code prints this\n")
            case "hang":
                await asyncio.sleep(60)
        return await super().complete(prompt, params)


def ask(content):
    return Prompt((Message("user", content),))


@pytest.fixture
async def engine(anyio_backend):
    isolated = IsolatedEngine("fragile", "m", Fragile)
    await isolated.start()
    yield isolated
    await isolated.close()


async def test_runs_in_another_process(engine):
    assert int((await engine.complete(ASK, Params(4))).text) != os.getpid()
    assert engine.model == "scripted"
    assert engine.control_tokens == ScriptedEngine.control_tokens
    assert engine.ready


async def test_errors_keep_type_and_message(engine):
    with pytest.raises(PromptTooLong, match=r"9000 tokens .* 100.* holds 8192"):
        await engine.complete(ask("too long"), Params(4))
    with pytest.raises(EngineError, match="surprise"):
        await engine.complete(ask("bug"), Params(4))


async def test_native_prints_do_not_corrupt_replies(engine):
    assert (await engine.complete(ask("print"), Params(4))).text


async def test_child_log_reaches_parent(caplog):
    isolated = IsolatedEngine("fragile", "m", Fragile)
    await isolated.start()
    await isolated.close()
    assert ("fragile", logging.WARNING, "a log record") in caplog.record_tuples


async def test_crash_fails_pending_and_restarts(engine, caplog):
    before = (await engine.complete(ASK, Params(4))).text
    waiting = asyncio.create_task(engine.complete(ask("hang"), Params(4)))
    await asyncio.sleep(0)
    with pytest.raises(EngineError, match=r"ended \(signal 9\)"):
        await engine.complete(ask("die"), Params(4))
    with pytest.raises(EngineError, match=r"ended \(signal 9\)"):
        await waiting
    assert not engine.ready
    assert (await engine.complete(ASK, Params(4))).text != before
    assert engine.ready
    assert "restarting it" in caplog.text


async def test_restart_is_retried(engine, monkeypatch):
    """A restart that fails for lack of memory is tried again."""
    start, tries = asyncio.create_subprocess_exec, []

    async def out_of_memory(*args, **kwargs):
        tries.append(args)
        if len(tries) == 1:
            raise OSError(12, "Cannot allocate memory")
        return await start(*args, **kwargs)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", out_of_memory)
    with pytest.raises(EngineError):
        await engine.complete(ask("die"), Params(4))
    async with asyncio.timeout(HANG_S):
        assert (await engine.complete(ASK, Params(4))).text
    assert len(tries) == 2


async def test_close_fails_calls_during_restart(engine, monkeypatch):
    async def out_of_memory(*args, **kwargs):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", out_of_memory)
    with pytest.raises(EngineError):
        await engine.complete(ask("die"), Params(4))
    waiting = asyncio.create_task(engine.complete(ASK, Params(4)))
    await asyncio.sleep(0.05)
    await engine.close()
    async with asyncio.timeout(HANG_S):
        with pytest.raises(EngineError, match="not running"):
            await waiting


async def test_child_exits_on_truncated_message(engine):
    """The parent may die in the middle of a message."""
    child = int((await engine.complete(ASK, Params(4))).text)
    engine._process.stdin.write(b"\x80\x04\x95\xff\xff\x00\x00\x00\x00\x00\x00half a pickle")
    engine._process.stdin.close()
    async with asyncio.timeout(HANG_S):
        assert await engine._process.wait() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


async def test_cancel_reaches_child(engine):
    hanging = asyncio.create_task(engine.complete(ask("hang"), Params(4)))
    await asyncio.sleep(0.1)
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert (await engine.complete(ASK, Params(4))).text


@pytest.mark.parametrize(
    ("error", "text"),
    [(ModelNotLoaded("no such file"), "no such file"), (MissingExtra("cpu", "this"), r"grm-service\[cpu\]"),
     (ZeroDivisionError("oops"), "could not start: ZeroDivisionError")],
)  # fmt: skip
async def test_failed_start_raises(error, text):
    isolated = IsolatedEngine("fragile", "m", partial(Fragile, error))
    with pytest.raises(ModelNotLoaded, match=text) as caught:
        await isolated.start()
    assert not caught.value.retryable
    await isolated.close()


async def test_close_fails_pending_and_ends_child(engine):
    child = int((await engine.complete(ASK, Params(4))).text)
    waiting = asyncio.create_task(engine.complete(ask("hang"), Params(4)))
    await asyncio.sleep(0.05)
    await engine.close()
    with pytest.raises(EngineError):
        await waiting
    with pytest.raises(EngineError, match="not running"):
        await engine.complete(ASK, Params(4))
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@pytest.mark.parametrize("error", [EngineUnreachable("away"), PromptTooLong(1, 2, 3), MissingExtra("a", "b")])
def test_errors_survive_pickling(error):
    import pickle

    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin), vars(twin)) == (type(error), str(error), vars(error))
