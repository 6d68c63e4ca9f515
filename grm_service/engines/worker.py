"""The child process of what runs isolated: reads requests from stdin, answers on stdout, ends with stdin.

Both ends are this package's own, so what travels are pickles: to the child the builder of an engine or of a
meta RM, then (number, method, arguments), or (number, None, ()) to cancel; back, each with its size before
it, ("started", what it is) or ("failed", error), ("done", number, result or error), ("log", ...).
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO

from grm_service.engines.base import Engine, MetaRM
from grm_service.errors import EngineError, GRMError, ModelNotLoaded

_Request = tuple[int, str | None, tuple[Any, ...]]
_TOLD = ("model", "abilities", "control_tokens")
"""What is known of an engine from its start on, and of a meta RM as far as it has it."""


class _Parent(logging.Handler):
    """The way back, also for the log."""

    def __init__(self, out: BinaryIO) -> None:
        super().__init__()
        self._out = out
        self._one_at_a_time = threading.Lock()

    def say(self, *message: object) -> None:
        content = pickle.dumps(message)
        with self._one_at_a_time:
            self._out.write(len(content).to_bytes(4) + content)
            self._out.flush()

    def emit(self, record: logging.LogRecord) -> None:
        self.say("log", record.levelno, record.name, self.format(record))


def main() -> None:
    """Serves until stdin ends, which also happens when the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends us in order
    parent = _Parent(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what native code prints must not come between
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[parent])
    with suppress(BrokenPipeError):
        asyncio.run(_serve(parent))
    os._exit(0)  # engines' threads may be inside a step


async def _serve(parent: _Parent) -> None:
    inbox: asyncio.Queue[_Request | None] = asyncio.Queue()
    build: Callable[[], Engine | MetaRM] = pickle.load(sys.stdin.buffer)
    try:
        engine = build()
        await engine.start()
    except GRMError as failed:
        return parent.say("failed", failed)
    except Exception as failed:
        logging.getLogger(__name__).exception("the engine could not start")
        return parent.say("failed", ModelNotLoaded(f"the engine could not start: {failed!r}"))
    parent.say("started", {name: getattr(engine, name) for name in _TOLD if hasattr(engine, name)})
    threading.Thread(target=_read, args=(inbox, asyncio.get_running_loop()), daemon=True).start()
    running: dict[int, asyncio.Task[None]] = {}
    while (message := await inbox.get()) is not None:
        number, verb, asked = message
        if verb is not None:
            running[number] = asyncio.create_task(_answer(engine, parent, number, verb, asked))
            running = {number: task for number, task in running.items() if not task.done()}
        elif number in running:
            running[number].cancel()
    return None


def _read(inbox: asyncio.Queue[_Request | None], loop: asyncio.AbstractEventLoop) -> None:
    try:
        while True:
            loop.call_soon_threadsafe(inbox.put_nowait, pickle.load(sys.stdin.buffer))
    except (EOFError, pickle.UnpicklingError):  # the parent is gone, in the middle of a message it may be
        pass
    finally:
        loop.call_soon_threadsafe(inbox.put_nowait, None)


async def _answer(
    engine: Engine | MetaRM, parent: _Parent, number: int, verb: str, asked: tuple[Any, ...]
) -> None:
    try:
        parent.say("done", number, await getattr(engine, verb)(*asked))
    except GRMError as failed:
        parent.say("done", number, failed)
        if not engine.ready:
            os._exit(1)  # the parent starts another
    except Exception as failed:
        logging.getLogger(__name__).exception("the %s engine failed", engine.name)
        parent.say("done", number, EngineError(f"the {engine.name} engine failed: {failed!r}"))


if __name__ == "__main__":
    main()
