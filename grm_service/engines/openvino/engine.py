"""The openvino engine: continuous batching on a CPU with a paged, prefix-sharing KV cache, without torch.

One thread owns the pipeline and runs its steps. Between steps it adds new requests and drops cancelled ones.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from grm_service.engines.base import Abilities, ThinkingBehavior
from grm_service.engines.openvino.pipeline import BLOCK, Pipeline
from grm_service.engines.prefixes import PrefixTracker
from grm_service.errors import EngineError, GRMError, ModelNotLoaded
from grm_service.types import Alternative, Completion, Message, Params, Prompt, Usage

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Request:
    """A request and its progress. `handle` is the pipeline's; `reached_max`: it ended at max_tokens."""

    prompt: Prompt
    params: Params
    result: Future[Completion] = field(default_factory=Future)
    rendered: Any = None
    handle: Any = None
    tensor: Any = None
    ids: Any = None
    tokens: list[int] = field(default_factory=list)
    reached_max: bool = False
    top_tokens: list[_TopTokens] = field(default_factory=list)

    def succeed(self, completion: Completion) -> None:
        with suppress(InvalidStateError):  # cancelled in the meantime
            self.result.set_result(completion)

    def fail(self, error: Exception) -> None:
        with suppress(InvalidStateError):
            self.result.set_exception(error)


@dataclass(slots=True, eq=False)
class _TopTokens:
    """The request for the top tokens at one position of a finished text; `row` is empty until it is done."""

    handle: Any
    row: tuple[Alternative, ...] = ()


class OpenVINOEngine:
    """Loads a GGUF (Llama and Qwen families; not Q4_1) or a folder exported for OpenVINO.

    `model` is the reported identity. `files` returns the path to load, downloaded if necessary; it is called
    at the start. `kv_cache_gb` is the most memory for keys and values (GiB; None: see Pipeline). `precision`
    is that of the arithmetic: "f32" generates the same greedy text as transformers; "auto" computes in bf16
    if the CPU does, about twice as fast. A text depends on its seed and prompt and, through rounding, on the
    other requests in its batch.
    """

    name = "openvino"
    abilities = Abilities()
    thinking = ThinkingBehavior()
    dropped_fields: tuple[str, ...] = ()
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
        """Load the model (seconds) and generate one token. Raises ModelNotLoaded."""
        await asyncio.to_thread(self._load)
        self.ready = True
        self._thread = threading.Thread(target=self._run, name="openvino", daemon=True)
        self._thread.start()
        await self.complete(Prompt((Message("user", "Hello"),)), Params(max_tokens=1, thinking_tokens=0))

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """Generate one completion; joins the batch at its next step. Raises PromptTooLong, EngineError."""
        request = _Request(prompt, params)
        self._inbox.put(request)
        if not self.ready:
            raise EngineError("the openvino engine is not running")
        return await asyncio.wrap_future(request.result)

    async def close(self) -> None:
        """Stop the thread after its current step. Pending requests fail with EngineError."""
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
        except Exception as error:
            # OpenVINO's message lists its source locations first; the last line is the cause.
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            raise ModelNotLoaded(
                f"OpenVINO cannot load the model {self.model} from {path}: {reason}"
            ) from None
        self.control_tokens = self._pipeline.control_tokens
        self.thinking = self._pipeline.template.behavior
        self._prefixes = PrefixTracker(BLOCK)

    def _run(self) -> None:
        try:
            while self._receive():
                try:
                    self._step()
                except Exception as error:
                    self._recover(error)
        except ModelNotLoaded as error:
            logger.error("the openvino engine stops: %s", error)
        finally:
            self._shut_down()

    def _receive(self) -> bool:
        """Receive new requests, blocking if there is nothing else to do. Returns False to stop."""
        while not (self._running or self._waiting) or not self._inbox.empty():
            request = self._inbox.get()
            if request is None:
                return False
            try:
                self._prepare(request)
                self._waiting.append(request)
            except Exception as error:
                request.fail(error)
        return True

    def _prepare(self, request: _Request) -> None:
        """Tokenize a request. Raises PromptTooLong if it does not fit the context or the cache."""
        request.rendered = self._pipeline.template.render(request.prompt, request.params)
        request.tensor = self._pipeline.encode(request.rendered.text)
        request.ids = request.tensor.data[0].copy()
        size, context, cache = len(request.ids), self._pipeline.context, self._pipeline.cache_tokens
        capacity = min(context, cache)
        if size + request.params.max_tokens > capacity:
            size = max(size, self._pipeline.count_tokens(request.rendered.text))
        what = "model's context" if context <= cache else "key-value cache (GRM_KV_CACHE_GB)"
        limit = request.rendered.token_limit(size, request.params.max_tokens, capacity, what)
        request.params = replace(request.params, max_tokens=limit)

    def _step(self) -> None:
        self._admit()
        self._pipeline.step()
        for request in list(self._running):
            self._collect(request)

    def _admit(self) -> None:
        """Add the waiting requests to the batch, except those that should wait for a prefill.

        A request waits if one that is prefilling now shares enough of its prompt: see PrefixTracker.
        """
        for request in list(self._waiting):
            if request.result.cancelled():
                self._waiting.remove(request)
            elif not self._prefixes.should_wait(request.ids, (r.ids for r in self._running if not r.tokens)):
                self._waiting.remove(request)
                self._running.append(request)
                request.handle = self._pipeline.submit(request.tensor, request.params)

    def _collect(self, request: _Request) -> None:
        """Read a request's new tokens; complete it if it is finished, drop it if it is cancelled."""
        if request.result.cancelled():
            for handle in (request.handle, *(position.handle for position in request.top_tokens)):
                handle.cancel()
            self._running.remove(request)
            return
        tokens, reached_max = self._pipeline.read(request.handle)
        if tokens and not request.tokens:
            self._prefixes.mark_computed(request.ids)
        request.tokens += tokens
        request.reached_max = request.reached_max or reached_max
        try:
            if self._pipeline.is_finished(request.handle) and self._has_alternatives(request):
                self._running.remove(request)
                request.succeed(self._completion(request))
        except EngineError as error:
            self._running.remove(request)
            request.fail(error)

    def _has_alternatives(self, request: _Request) -> bool:
        """Submit the requests for the alternatives if there are none yet; return True if all are done."""
        count = request.params.alternatives
        if count and not request.top_tokens:
            request.top_tokens = [self._submit_top_tokens(request, at) for at in range(len(request.tokens))]
        for position in request.top_tokens:
            if not position.row and self._pipeline.is_finished(position.handle):
                position.row = self._pipeline.read_top_tokens(position.handle)[:count]
        return all(position.row for position in request.top_tokens)

    def _submit_top_tokens(self, request: _Request, at: int) -> _TopTokens:
        ids = np.append(request.ids, np.array(request.tokens[:at], np.int64))
        return _TopTokens(self._pipeline.submit_top_tokens(ids, request.params.alternatives))

    def _completion(self, request: _Request) -> Completion:
        return Completion(
            text=request.rendered.start_tag + self._pipeline.decode(request.tokens),
            finish_reason="length" if request.reached_max else "stop",
            usage=Usage(prompt_tokens=len(request.ids), completion_tokens=len(request.tokens)),
            alternatives=tuple(position.row for position in request.top_tokens),
        )

    def _recover(self, error: Exception) -> None:
        """Fail the running requests and reload the model. Raises ModelNotLoaded if that fails."""
        logger.error("a step of the openvino engine failed, reloading the model: %s", error)
        _fail(self._running, f"a step of the openvino engine failed: {error}")
        self._running.clear()
        self._load()

    def _shut_down(self) -> None:
        self.ready = False  # first, so that `complete` rejects any request that arrives from now on
        while not self._inbox.empty():
            if (request := self._inbox.get()) is not None:
                self._waiting.append(request)
        _fail(self._running + self._waiting, "the openvino engine has stopped")


def _fail(requests: list[_Request], reason: str) -> None:
    for request in requests:
        request.fail(EngineError(reason))
