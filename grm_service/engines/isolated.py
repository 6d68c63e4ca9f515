"""An embedded engine, or an embedded meta RM, in a process of its own.

A step of OpenVINO holds Python's interpreter lock from begin to end (a prefill of 1,000 tokens: 0.2 to 1 s),
and torch much of it: beside an HTTP server that would stall every connection. A process of its own also
means that whatever kills the engine leaves the service alive, which then starts it again.
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

from grm_service.engines.base import Abilities, Engine, MetaRM
from grm_service.errors import EngineError, GRMError
from grm_service.types import Completion, Message, Params, Prompt

logger = logging.getLogger(__name__)
_PATIENCE_S = 10


class _Isolated:
    """Runs what `build` makes (it must pickle) in a child process; see engines/worker.py.

    When the child dies, the requests in it fail with EngineError and a new one is started. `what` is its name
    in errors.
    """

    control_tokens: tuple[str, ...] = ()

    def __init__(self, name: str, model: str, build: Callable[[], Engine | MetaRM], what: str) -> None:
        self.name = name
        self.model = model
        self._build = build
        self._what = what
        self._numbers = count()
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._up = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._again: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def ready(self) -> bool:
        """Whether the child is up."""
        return self._up.is_set() and not self._closing

    async def start(self) -> None:
        """Starts the child and loads the model there. Raises ModelNotLoaded, MissingExtra, EngineError."""
        # The child finds what this process finds, and nothing because of the folder that it runs in.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "grm_service.engines.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        started: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._watch = asyncio.create_task(self._listen(self._process, started))
        self._send(self._build)
        # Shielded: what is closed while it comes back is still listened to.
        for name, told in (await asyncio.shield(started)).items():
            setattr(self, name, told)
        self._up.set()

    async def close(self) -> None:
        """Ends the child: it frees what it took, or is killed after some seconds."""
        self._closing = True
        self._up.set()  # who waits for it learns that it does not come
        if self._again is not None:
            self._again.cancel()
            await asyncio.gather(self._again, return_exceptions=True)
        if self._process is None or self._watch is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _PATIENCE_S)
        except TimeoutError:
            self._process.kill()
        await self._watch

    async def _ask(self, verb: str, *asked: object) -> Any:
        """What the child's method of this name gives or raises; waits where it is being started again."""
        if self._process is None or self._closing:
            raise EngineError(f"{self._what} is not running")
        await self._up.wait()
        if self._closing:
            raise EngineError(f"{self._what} is not running")
        number = next(self._numbers)
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._open[number] = done
        try:
            self._send((number, verb, asked))
            return await done
        except asyncio.CancelledError:
            self._send((number, None, ()))
            raise
        finally:
            self._open.pop(number, None)

    def _send(self, message: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(ConnectionError, RuntimeError):  # it has died: _listen says so to those who wait
            self._process.stdin.write(pickle.dumps(message))

    async def _listen(self, process: asyncio.subprocess.Process, started: asyncio.Future[Any]) -> None:
        assert process.stdout is not None
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                size = int.from_bytes(await process.stdout.readexactly(4))
                kind, *said = pickle.loads(await process.stdout.readexactly(size))
                if kind == "log":
                    level, name, text = said
                    logging.getLogger(name).log(level, "%s", text)
                elif kind == "started":
                    started.set_result(said[0])
                elif kind == "failed":
                    started.set_exception(said[0])
                else:
                    self._hand_over(*said)
        self._ended(await process.wait(), started)

    def _hand_over(self, number: int, result: object) -> None:
        done = self._open.get(number)
        if done is None or done.done():
            return
        if isinstance(result, GRMError):
            done.set_exception(result)
        else:
            done.set_result(result)

    def _ended(self, code: int, started: asyncio.Future[Any]) -> None:
        was_up = self._up.is_set()
        self._up.clear()
        error = EngineError(f"the process of {self._what} ended ({_meaning(code)})")
        if not started.done():
            started.set_exception(error)
        for done in self._open.values():
            if not done.done():
                done.set_exception(error)
        if was_up and not self._closing:
            logger.error("%s; starting it again", error)
            self._again = asyncio.create_task(self._restart())

    async def _restart(self) -> None:
        pause = 1.0
        while not self._closing:
            try:
                await self.start()
                return
            except (GRMError, OSError) as failed:
                logger.error("%s does not come back yet: %s", self._what, failed)
                await asyncio.sleep(pause)
                pause = min(60.0, 2 * pause)


class IsolatedEngine(_Isolated):
    """An engine there."""

    abilities = Abilities()

    def __init__(self, name: str, model: str, build: Callable[[], Engine]) -> None:
        super().__init__(name, model, build, f"the {name} engine")

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """One completion. Raises what the engine raises."""
        completion: Completion = await self._ask("complete", prompt, params)
        return completion


class IsolatedMetaRM(_Isolated):
    """A meta RM there."""

    def __init__(self, model: str, build: Callable[[], MetaRM]) -> None:
        super().__init__("transformers", model, build, "the meta RM")

    async def grade(self, judgement: tuple[Message, ...]) -> float:
        """One grade, 0..1. Raises what the meta RM raises."""
        grade: float = await self._ask("grade", judgement)
        return grade


def _meaning(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"
