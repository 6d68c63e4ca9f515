"""The child process of an isolated engine: reads requests from stdin, writes replies to stdout.

The parent is engines/isolated.py. Messages are pickles, because both ends are this package's own. To the
child: first the function that builds the engine or meta RM, then (id, method, arguments) for each call, or
(id, None, ()) to cancel one. To the parent, each with a length prefix of 4 bytes: ("started", attributes) or
("failed", error) once, then ("done", id, result or error) for each call, and ("log", level, logger, text).
The child exits when stdin ends.
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
_ATTRIBUTES = ("model", "abilities", "thinking", "control_tokens")
"""Attributes that are final after `start`, and sent to the parent then. A meta RM lacks the middle two."""


class _ParentPipe(logging.Handler):
    """The pipe to the parent, and the log handler that writes into it."""

    def __init__(self, out: BinaryIO) -> None:
        super().__init__()
        self._out = out
        self._write_lock = threading.Lock()

    def send(self, *message: object) -> None:
        content = pickle.dumps(message)
        with self._write_lock:
            self._out.write(len(content).to_bytes(4) + content)
            self._out.flush()

    def emit(self, record: logging.LogRecord) -> None:
        self.send("log", record.levelno, record.name, self.format(record))


def main() -> None:
    """Serve until stdin ends, which also happens when the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which shuts us down
    parent = _ParentPipe(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # native code that prints to stdout must not corrupt the message stream
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[parent])
    with suppress(BrokenPipeError):
        asyncio.run(_serve(parent))
    os._exit(0)  # do not join the engine's threads: one may be in the middle of a step


async def _serve(parent: _ParentPipe) -> None:
    requests: asyncio.Queue[_Request | None] = asyncio.Queue()
    build: Callable[[], Engine | MetaRM] = pickle.load(sys.stdin.buffer)
    try:
        engine = build()
        await engine.start()
    except GRMError as error:
        return parent.send("failed", error)
    except Exception as error:
        logging.getLogger(__name__).exception("the engine could not start")
        return parent.send("failed", ModelNotLoaded(f"the engine could not start: {error!r}"))
    parent.send("started", {name: getattr(engine, name) for name in _ATTRIBUTES if hasattr(engine, name)})
    threading.Thread(target=_read_stdin, args=(requests, asyncio.get_running_loop()), daemon=True).start()
    running: dict[int, asyncio.Task[None]] = {}
    while (request := await requests.get()) is not None:
        id_, method, arguments = request
        if method is not None:
            running[id_] = asyncio.create_task(_call(engine, parent, id_, method, arguments))
            running = {each: task for each, task in running.items() if not task.done()}
        elif id_ in running:
            running[id_].cancel()
    return None


def _read_stdin(requests: asyncio.Queue[_Request | None], loop: asyncio.AbstractEventLoop) -> None:
    try:
        while True:
            loop.call_soon_threadsafe(requests.put_nowait, pickle.load(sys.stdin.buffer))
    except (EOFError, pickle.UnpicklingError):  # the parent is gone, maybe in the middle of a message
        pass
    finally:
        loop.call_soon_threadsafe(requests.put_nowait, None)


async def _call(
    engine: Engine | MetaRM, parent: _ParentPipe, id_: int, method: str, arguments: tuple[Any, ...]
) -> None:
    try:
        parent.send("done", id_, await getattr(engine, method)(*arguments))
    except GRMError as error:
        parent.send("done", id_, error)
        if not engine.ready:
            os._exit(1)  # the engine is beyond recovery: the parent starts a new process
    except Exception as error:
        logging.getLogger(__name__).exception("the %s engine failed", engine.name)
        parent.send("done", id_, EngineError(f"the {engine.name} engine failed: {error!r}"))


if __name__ == "__main__":
    main()
