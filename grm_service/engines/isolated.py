"""Process isolation: an embedded engine or meta RM in a child process, restarted when it crashes.

A step of OpenVINO holds Python's interpreter lock throughout (a prefill of 1,000 tokens: 0.2 to 1 s), and
torch does for much of one: in the process of the HTTP server, that would stall every connection. With a
process of its own, a crash of the engine also leaves the service alive. The child's side is
engines/worker.py.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

from grm_service.engines.base import Abilities, Engine, MetaRM, ThinkingBehavior
from grm_service.errors import EngineError, GRMError
from grm_service.types import Completion, Message, Params, Prompt

logger = logging.getLogger(__name__)
_SHUTDOWN_TIMEOUT_S = 10
_MAX_RESTART_PAUSE_S = 60.0


class _ChildProcess:
    """Runs the object that `build` returns in a child process. `build` must be picklable.

    When the child dies, its pending requests fail with EngineError and a new child is started. `label` is its
    name in errors and the log.
    """

    control_tokens: tuple[str, ...] = ()

    def __init__(self, name: str, model: str, build: Callable[[], Engine | MetaRM], label: str) -> None:
        self.name = name
        self.model = model
        self._build = build
        self._label = label
        self._ids = count()
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._up = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def ready(self) -> bool:
        """True while the child serves."""
        return self._up.is_set() and not self._closing

    async def start(self) -> None:
        """Start the child and load the model in it. Raises ModelNotLoaded, MissingExtra, EngineError."""
        # The child imports from the same places as this process, whatever folder it runs in (-P).
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "grm_service.engines.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        started: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read_replies(self._process, started))
        self._send(self._build)
        # Shielded: `close` cancels a restart, but the reader still needs the future.
        for name, value in (await asyncio.shield(started)).items():
            setattr(self, name, value)
        self._up.set()

    async def close(self) -> None:
        """Shut the child down; kill it if it does not exit within 10 s."""
        self._closing = True
        self._up.set()  # wakes calls that wait for a restart, so that they fail now
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.gather(self._restarting, return_exceptions=True)
        if self._process is None or self._reader is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _SHUTDOWN_TIMEOUT_S)
        except TimeoutError:
            self._process.kill()
        await self._reader

    async def _call(self, method: str, *arguments: object) -> Any:
        """Call a method in the child and return its result or raise its error.

        Waits while the child restarts. Cancelling cancels the call in the child.
        """
        if self._process is None or self._closing:
            raise EngineError(f"{self._label} is not running")
        await self._up.wait()
        if self._closing:
            raise EngineError(f"{self._label} is not running")
        id_ = next(self._ids)
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending[id_] = result
        try:
            self._send((id_, method, arguments))
            return await result
        except asyncio.CancelledError:
            self._send((id_, None, ()))
            raise
        finally:
            self._pending.pop(id_, None)

    def _send(self, message: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(ConnectionError, RuntimeError):  # if the child died, _read_replies fails the callers
            self._process.stdin.write(pickle.dumps(message))

    async def _read_replies(self, process: asyncio.subprocess.Process, started: asyncio.Future[Any]) -> None:
        assert process.stdout is not None
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                size = int.from_bytes(await process.stdout.readexactly(4))
                kind, *content = pickle.loads(await process.stdout.readexactly(size))
                if kind == "log":
                    level, name, text = content
                    logging.getLogger(name).log(level, "%s", text)
                elif kind == "started":
                    started.set_result(content[0])
                elif kind == "failed":
                    started.set_exception(content[0])
                else:
                    self._resolve(*content)
        self._on_exit(await process.wait(), started)

    def _resolve(self, id_: int, result: object) -> None:
        future = self._pending.get(id_)
        if future is None or future.done():
            return
        if isinstance(result, GRMError):
            future.set_exception(result)
        else:
            future.set_result(result)

    def _on_exit(self, code: int, started: asyncio.Future[Any]) -> None:
        was_up = self._up.is_set()
        self._up.clear()
        error = EngineError(f"the process of {self._label} ended ({_exit_reason(code)})")
        if not started.done():
            started.set_exception(error)
        for future in self._pending.values():
            if not future.done():
                future.set_exception(error)
        if was_up and not self._closing:
            logger.error("%s; restarting it", error)
            self._restarting = asyncio.create_task(self._restart())

    async def _restart(self) -> None:
        pause_s = 1.0
        while not self._closing:
            try:
                await self.start()
                return
            except (GRMError, OSError) as error:
                logger.error("%s could not be restarted: %s", self._label, error)
                await asyncio.sleep(pause_s)
                pause_s = min(_MAX_RESTART_PAUSE_S, 2 * pause_s)


class IsolatedEngine(_ChildProcess):
    """An engine in a child process."""

    abilities = Abilities()
    thinking = ThinkingBehavior()
    dropped_fields: tuple[str, ...] = ()

    def __init__(self, name: str, model: str, build: Callable[[], Engine]) -> None:
        super().__init__(name, model, build, f"the {name} engine")

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """Generate one completion. Raises the engine's errors."""
        completion: Completion = await self._call("complete", prompt, params)
        return completion


class IsolatedMetaRM(_ChildProcess):
    """A meta RM in a child process."""

    def __init__(self, model: str, build: Callable[[], MetaRM]) -> None:
        super().__init__("transformers", model, build, "the meta RM")

    async def grade(self, judgement: tuple[Message, ...]) -> float:
        """Return the grade (0..1) of one judgement. Raises the meta RM's errors."""
        grade: float = await self._call("grade", judgement)
        return grade


def _exit_reason(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"
