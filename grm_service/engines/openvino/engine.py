"""OpenVINO GenAI on a CPU: continuous batching with a paged, prefix-shared cache, and no torch.

One thread owns the pipeline and steps it. Requests join between steps; a cancelled one is dropped there.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from grm_service.engines.base import Abilities
from grm_service.engines.openvino.pipeline import BLOCK, Pipeline
from grm_service.engines.prefixes import Prefixes
from grm_service.errors import EngineError, GRMError, ModelNotLoaded, PromptTooLong
from grm_service.types import Alternative, Completion, Message, Params, Prompt, Usage

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Request:
    prompt: Prompt
    params: Params
    done: Future[Completion] = field(default_factory=Future)
    handle: Any = None
    tensor: Any = None
    ids: Any = None
    tokens: list[int] = field(default_factory=list)
    length: bool = False
    looks: list[_Look] = field(default_factory=list)

    def answer(self, completion: Completion) -> None:
        with suppress(InvalidStateError):  # cancelled meanwhile
            self.done.set_result(completion)

    def fail(self, error: Exception) -> None:
        with suppress(InvalidStateError):
            self.done.set_exception(error)


@dataclass(slots=True, eq=False)
class _Look:
    """At one position of a finished text: which tokens could have stood there."""

    handle: Any
    row: tuple[Alternative, ...] = ()


class OpenVINOEngine:
    """Reads a GGUF (Llama and Qwen families; F16, not Q4_1) or a folder exported for OpenVINO.

    `model` is the identity to report, `files` finds (and fetches) them at the start, `kv_cache_gb` the most
    memory for keys and values (GiB; None: see Pipeline), `precision` that of the arithmetic: "f32"
    gives transformers' greedy text, "auto" rounds to bf16 where the CPU computes with it, about twice as
    fast. A text depends on its seed and prompt; through rounding also on what is batched with it.
    """

    name = "openvino"
    abilities = Abilities()
    ready = False
    control_tokens: tuple[str, ...] = ()

    def __init__(
        self, model: str, files: Callable[[], Path], kv_cache_gb: float | None, precision: str
    ) -> None:
        self.model = model
        self._files = files
        self._kv_cache_gb = kv_cache_gb
        self._precision = precision
        self._inbox: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._running: list[_Request] = []
        self._waiting: list[_Request] = []
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        """Loads the model (seconds) and generates a token. Raises ModelNotLoaded."""
        await asyncio.to_thread(self._load)
        self.ready = True
        self._thread = threading.Thread(target=self._run, name="openvino", daemon=True)
        self._thread.start()
        await self.complete(Prompt((Message("user", "Hello"),)), Params(max_tokens=1))

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """One completion; joins the batch at its next step. Raises PromptTooLong, EngineError."""
        request = _Request(prompt, params)
        self._inbox.put(request)
        if not self.ready:
            raise EngineError("the openvino engine is not running")
        return await asyncio.wrap_future(request.done)

    async def close(self) -> None:
        """Ends the thread after its step; what is under way fails."""
        if self._thread is not None:
            self._inbox.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    # -- on the engine's thread ---------------------------------------------------------------------

    def _load(self) -> None:
        path = self._files()
        try:
            self._pipeline = Pipeline(path, self._kv_cache_gb, self._precision)
        except GRMError:
            raise
        except Exception as failed:
            reason = str(failed).strip().splitlines()[-1] if str(failed).strip() else type(failed).__name__
            raise ModelNotLoaded(
                f"OpenVINO cannot load the model {self.model} from {path}: {reason}"
            ) from None
        self.control_tokens = self._pipeline.control_tokens
        self._prefixes = Prefixes(BLOCK)

    def _run(self) -> None:
        try:
            while self._take():
                try:
                    self._step()
                except Exception as failed:
                    self._recover(failed)
        except ModelNotLoaded as gone:
            logger.error("the openvino engine ends: %s", gone)
        finally:
            self._end()

    def _take(self) -> bool:
        """Lets new requests in; sleeps when there is nothing to do. False: close."""
        while not (self._running or self._waiting) or not self._inbox.empty():
            request = self._inbox.get()
            if request is None:
                return False
            try:
                self._prepare(request)
                self._waiting.append(request)
            except Exception as failed:
                request.fail(failed)
        return True

    def _prepare(self, request: _Request) -> None:
        text, wanted = self._pipeline.text(request.prompt), request.params.max_tokens
        request.tensor = self._pipeline.encode(text)
        request.ids = request.tensor.data[0].copy()
        size, context, kept = len(request.ids), self._pipeline.context, self._pipeline.kept
        if size + wanted > min(context, kept):
            what = "model's context" if context <= kept else "key-value cache (GRM_KV_CACHE_GB)"
            raise PromptTooLong(max(size, self._pipeline.size(text)), wanted, min(context, kept), what)

    def _step(self) -> None:
        self._admit()
        self._pipeline.step()
        for request in list(self._running):
            self._read(request)

    def _admit(self) -> None:
        """Adds what waits, but for prompts of which another that prefills just now shares a good part.

        Together each would compute that part for itself; afterwards they find it in the cache.
        """
        for request in list(self._waiting):
            if request.done.cancelled():
                self._waiting.remove(request)
            elif not self._prefixes.worth_waiting(
                request.ids, (r.ids for r in self._running if not r.tokens)
            ):
                self._waiting.remove(request)
                self._running.append(request)
                request.handle = self._pipeline.begin(request.tensor, request.params)

    def _read(self, request: _Request) -> None:
        if request.done.cancelled():
            for handle in (request.handle, *(look.handle for look in request.looks)):
                handle.cancel()
            self._running.remove(request)
            return
        tokens, length = self._pipeline.read(request.handle)
        if tokens and not request.tokens:
            self._prefixes.computed(request.ids)
        request.tokens += tokens
        request.length = request.length or length
        try:
            if self._pipeline.finished(request.handle) and self._looked(request):
                self._running.remove(request)
                request.answer(self._completion(request))
        except EngineError as failed:
            self._running.remove(request)
            request.fail(failed)

    def _looked(self, request: _Request) -> bool:
        """Whether the alternatives that were asked for are known; asks for them first."""
        most = request.params.alternatives
        if most and not request.looks:
            request.looks = [self._look(request, at) for at in range(len(request.tokens))]
        for look in request.looks:
            if not look.row and self._pipeline.finished(look.handle):
                look.row = self._pipeline.likely(look.handle)[:most]
        return all(look.row for look in request.looks)

    def _look(self, request: _Request, at: int) -> _Look:
        ids = np.append(request.ids, np.array(request.tokens[:at], np.int64))
        return _Look(self._pipeline.look(ids, request.params.alternatives))

    def _completion(self, request: _Request) -> Completion:
        return Completion(
            text=self._pipeline.decode(request.tokens),
            finish_reason="length" if request.length else "stop",
            usage=Usage(prompt_tokens=len(request.ids), completion_tokens=len(request.tokens)),
            alternatives=tuple(look.row for look in request.looks),
        )

    def _recover(self, failed: Exception) -> None:
        """Loads the model again; where that fails the thread ends, and the engine is not ready any more."""
        logger.error("a step of the openvino engine failed, loading the model again: %s", failed)
        _fail(self._running, f"a step of the openvino engine failed: {failed}")
        self._running.clear()
        self._load()

    def _end(self) -> None:
        self.ready = False  # first: what comes into the inbox from now on is refused by `complete`
        while not self._inbox.empty():
            if (request := self._inbox.get()) is not None:
                self._waiting.append(request)
        _fail(self._running + self._waiting, "the openvino engine has ended")


def _fail(requests: list[_Request], reason: str) -> None:
    for request in requests:
        request.fail(EngineError(reason))
