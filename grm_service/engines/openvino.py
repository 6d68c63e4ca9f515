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

from grm_service.engines import facts, machine
from grm_service.engines.base import Abilities
from grm_service.engines.prefixes import Prefixes
from grm_service.errors import EngineError, MissingExtra, ModelNotLoaded, PromptTooLong
from grm_service.types import Alternative, Completion, Message, Params, Prompt, Usage

logger = logging.getLogger(__name__)
_BLOCK = 32
"""Tokens a block of OpenVINO's cache on a CPU: prefixes are shared by whole blocks."""
_BATCHED_TOKENS = 2048


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

    def fail(self, error: Exception) -> None:
        with suppress(InvalidStateError):  # cancelled meanwhile
            self.done.set_exception(error)


@dataclass(slots=True, eq=False)
class _Look:
    """A one-step beam search: its beams are the likeliest tokens at a position, with their probabilities."""

    handle: Any
    row: tuple[Alternative, ...] = ()


class OpenVINOEngine:
    """Reads a GGUF (Llama and Qwen families; F16, not Q4_1) or a folder exported for OpenVINO.

    `model` is the identity to report, `files` finds (and fetches) them at the start, `kv_cache_gb` is the
    most memory for keys and values (GiB; taken as it is needed), `precision` that of the arithmetic: "f32"
    gives transformers' greedy text, "auto" rounds to bf16 where the CPU computes with it, about twice as
    fast. A text depends on its seed and prompt; through rounding also on what is batched with it.
    """

    name = "openvino"
    abilities = Abilities()
    ready = False
    control_tokens: tuple[str, ...] = ()

    def __init__(self, model: str, files: Callable[[], Path], kv_cache_gb: float, precision: str) -> None:
        self.model = model
        self._files = files
        self._kv_cache_gb = kv_cache_gb
        self._properties: dict[str, Any] = {"INFERENCE_NUM_THREADS": machine.cores()}
        if precision != "auto":
            self._properties["INFERENCE_PRECISION_HINT"] = precision
        self._inbox: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._running: list[_Request] = []
        self._waiting: list[_Request] = []
        self._prefixes = Prefixes(_BLOCK)
        self._thread: threading.Thread | None = None
        self._ids = 0

    async def start(self) -> None:
        """Loads the model (seconds) and generates a token. Raises ModelNotLoaded, MissingExtra."""
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
        try:
            import openvino_genai
        except ImportError:
            raise MissingExtra("cpu", "the openvino engine") from None
        self._genai = openvino_genai
        path = self._files()
        try:
            known = facts.read(path)
            self.control_tokens = known.control_tokens
            blocks = int(self._kv_cache_gb * 2**30 / (2 * known.kept_per_token * _BLOCK))
            self._kept = blocks * _BLOCK
            self._pipeline = openvino_genai.ContinuousBatchingPipeline(
                str(path), self._scheduler(blocks), "CPU", self._properties
            )
            self._tokenizer = self._pipeline.get_tokenizer()
            # The tokenizer cuts at a length of its own without a word: know it, so as to refuse instead.
            self._context = min(known.context, self._encode("a " * (2 * known.context)).shape[1])
        except Exception as failed:
            reason = str(failed).strip().splitlines()[-1] if str(failed).strip() else type(failed).__name__
            raise ModelNotLoaded(
                f"OpenVINO cannot load the model {self.model} from {path}: {reason}"
            ) from None
        logger.info("%s on %d cores, room for %d tokens", self.model, machine.cores(), self._kept)

    def _scheduler(self, blocks: int) -> Any:
        scheduler = self._genai.SchedulerConfig()
        scheduler.cache_size, scheduler.num_kv_blocks = 0, blocks
        scheduler.enable_prefix_caching = True
        scheduler.max_num_batched_tokens = _BATCHED_TOKENS
        return scheduler

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

    def _step(self) -> None:
        self._admit()
        if self._pipeline.has_non_finished_requests():
            self._pipeline.step()
        for request in list(self._running):
            self._read(request)

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
        text, wanted = self._text(request.prompt), request.params.max_tokens
        request.tensor = self._encode(text)
        request.ids = request.tensor.data[0].copy()
        size = len(request.ids)
        if size + wanted > min(self._context, self._kept):
            what = "model's context" if self._context <= self._kept else "key-value cache (GRM_KV_CACHE_GB)"
            raise PromptTooLong(self._true_size(text, size), wanted, min(self._context, self._kept), what)

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
                request.handle = self._add(request.tensor, self._config(request.params))

    def _add(self, ids: Any, config: Any) -> Any:
        self._ids += 1
        return self._pipeline.add_request(self._ids, ids, config)

    def _read(self, request: _Request) -> None:
        if request.done.cancelled():
            for handle in (request.handle, *(look.handle for look in request.looks)):
                handle.cancel()
            self._running.remove(request)
            return
        if request.handle.can_read():
            if not request.tokens:
                self._prefixes.computed(request.ids)
            for output in request.handle.read().values():
                request.tokens += output.generated_ids
                request.length = output.finish_reason == self._genai.GenerationFinishReason.LENGTH
        try:
            if self._finished(request.handle) and self._looked(request):
                self._running.remove(request)
                request.done.set_result(self._completion(request))
        except EngineError as failed:
            self._running.remove(request)
            request.fail(failed)

    def _finished(self, handle: Any) -> bool:
        status = handle.get_status()
        if status in (self._genai.GenerationStatus.RUNNING, self._genai.GenerationStatus.FINISHED):
            return bool(status == self._genai.GenerationStatus.FINISHED)
        raise EngineError(f"OpenVINO gave a request up: {status.name}")

    def _looked(self, request: _Request) -> bool:
        """Whether the alternatives that were asked for are known; asks for them first."""
        if request.params.alternatives and not request.looks:
            request.looks = [self._look(request, at) for at in range(len(request.tokens))]
        for look in request.looks:
            if not look.row and self._finished(look.handle):
                beams = sorted(look.handle.read().values(), key=lambda beam: -beam.score)
                told = [Alternative(self._decode(b.generated_ids, special=True), b.score) for b in beams]
                look.row = tuple(told[: request.params.alternatives])
        return all(look.row for look in request.looks)

    def _look(self, request: _Request, at: int) -> _Look:
        import numpy as np
        import openvino

        ids = np.append(request.ids, np.array(request.tokens[:at], np.int64))
        beams = max(2, request.params.alternatives)  # one would be no beam search
        # One step: no beam has ended yet, and a score is the log-probability of one token.
        config = self._genai.GenerationConfig(
            max_new_tokens=1, num_beams=beams, num_return_sequences=beams, apply_chat_template=False
        )
        return _Look(self._add(openvino.Tensor(ids[None]), config))

    def _completion(self, request: _Request) -> Completion:
        return Completion(
            text=self._decode(request.tokens),
            finish_reason="length" if request.length else "stop",
            usage=Usage(prompt_tokens=len(request.ids), completion_tokens=len(request.tokens)),
            alternatives=tuple(look.row for look in request.looks),
        )

    def _config(self, params: Params) -> Any:
        config = self._genai.GenerationConfig(
            max_new_tokens=params.max_tokens,
            eos_token_id=self._tokenizer.get_eos_token_id(),
            stop_token_ids=self._pipeline.get_config().stop_token_ids,
            apply_chat_template=False,
        )
        if params.temperature > 0:
            config.do_sample = True
            config.temperature = params.temperature
            config.top_p = params.top_p
            config.rng_seed = params.seed
        if params.regex is not None:
            config.structured_output_config = self._genai.StructuredOutputConfig(regex=params.regex)
        return config

    def _text(self, prompt: Prompt) -> str:
        turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
        return str(self._tokenizer.apply_chat_template(turns, True)) + prompt.continuation

    def _encode(self, text: str) -> Any:
        return self._tokenizer.encode(text, add_special_tokens=False).input_ids

    def _decode(self, tokens: list[int], special: bool = False) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=not special))

    def _true_size(self, text: str, size: int) -> int:
        """Of a prompt that the tokenizer may have cut, about."""
        pieces = (text[at : at + 4096] for at in range(0, len(text), 4096))
        return max(size, sum(int(self._encode(piece).shape[1]) for piece in pieces))

    def _recover(self, failed: Exception) -> None:
        """Loads the model again; where that fails the thread ends, and the engine is not ready any more."""
        logger.error("a step of the openvino engine failed, loading the model again: %s", failed)
        _fail(self._running, f"a step of the openvino engine failed: {failed}")
        self._running.clear()
        self._prefixes = Prefixes(_BLOCK)
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
