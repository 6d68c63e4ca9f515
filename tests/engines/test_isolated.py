"""An engine in a process of its own: what crosses the border, and what survives its death."""

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

pytestmark = pytest.mark.anyio
ASK = Prompt((Message("user", "Hello"),))


class Fragile(ScriptedEngine):
    """Does what the message says; runs in the child, so it must be importable from here."""

    def __init__(self, at_start=None):
        super().__init__(lambda prompt, params: f"{os.getpid()}")
        self.at_start = at_start

    async def start(self):
        logging.getLogger("fragile").warning("a word to the log")
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


async def test_it_runs_elsewhere_and_says_what_it_is(engine):
    assert int((await engine.complete(ASK, Params(4))).text) != os.getpid()
    assert engine.model == "scripted"
    assert engine.control_tokens == ScriptedEngine.control_tokens
    assert engine.ready


async def test_errors_keep_their_kind_and_their_text(engine):
    with pytest.raises(PromptTooLong, match=r"9000 tokens .* 100.* holds 8192"):
        await engine.complete(ask("too long"), Params(4))
    with pytest.raises(EngineError, match="surprise"):
        await engine.complete(ask("bug"), Params(4))


async def test_what_native_code_prints_does_not_come_between(engine):
    assert (await engine.complete(ask("print"), Params(4))).text


async def test_the_log_of_the_child_is_in_the_log(caplog):
    isolated = IsolatedEngine("fragile", "m", Fragile)
    await isolated.start()
    await isolated.close()
    assert ("fragile", logging.WARNING, "a word to the log") in caplog.record_tuples


async def test_a_death_fails_what_is_under_way_and_the_engine_comes_back(engine, caplog):
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
    assert "starting it again" in caplog.text


async def test_a_machine_that_is_full_for_a_while_does_not_keep_it_down(engine, monkeypatch):
    start, tries = asyncio.create_subprocess_exec, []

    async def full(*asked, **how):
        tries.append(asked)
        if len(tries) == 1:
            raise OSError(12, "Cannot allocate memory")
        return await start(*asked, **how)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", full)
    with pytest.raises(EngineError):
        await engine.complete(ask("die"), Params(4))
    async with asyncio.timeout(20):
        assert (await engine.complete(ASK, Params(4))).text
    assert len(tries) == 2


async def test_who_waits_for_it_to_come_back_is_told_that_it_closes(engine, monkeypatch):
    async def never(*asked, **how):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", never)
    with pytest.raises(EngineError):
        await engine.complete(ask("die"), Params(4))
    waiting = asyncio.create_task(engine.complete(ASK, Params(4)))
    await asyncio.sleep(0.05)
    await engine.close()
    async with asyncio.timeout(5):
        with pytest.raises(EngineError, match="not running"):
            await waiting


async def test_it_ends_with_a_parent_that_dies_in_the_middle_of_a_message(engine):
    child = int((await engine.complete(ASK, Params(4))).text)
    engine._process.stdin.write(b"\x80\x04\x95\xff\xff\x00\x00\x00\x00\x00\x00half a pickle")
    engine._process.stdin.close()
    async with asyncio.timeout(10):
        assert await engine._process.wait() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


async def test_a_cancelled_request_is_cancelled_in_the_child(engine):
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
async def test_what_fails_at_the_start_fails_the_start(error, text):
    isolated = IsolatedEngine("fragile", "m", partial(Fragile, error))
    with pytest.raises(ModelNotLoaded, match=text) as caught:
        await isolated.start()
    assert not caught.value.retryable
    await isolated.close()


async def test_after_the_end_nothing_is_left_and_nothing_hangs(engine):
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
def test_every_error_survives_a_pickle(error):
    import pickle

    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin), vars(twin)) == (type(error), str(error), vars(error))
