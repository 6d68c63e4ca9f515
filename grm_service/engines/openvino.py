"""OpenVINO GenAI on a CPU: continuous batching with a paged, prefix-shared cache, and no torch.

One thread owns the pipeline and steps it. Requests join between steps; a cancelled one is dropped there.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grm_service.engines.base import Abilities
from grm_service.errors import EngineError, MissingExtra, ModelNotLoaded, PromptTooLong
from grm_service.types import Completion, Message, Params, Prompt, Usage

logger = logging.getLogger(__name__)
_GGUF_CONTROL = 3  # gguf.TokenType.CONTROL


@dataclass(slots=True, eq=False)
class _Request:
    prompt: Prompt
    params: Params
    done: Future[Completion] = field(default_factory=Future)
    handle: Any = None
    prompt_ids: Any = None
    key: bytes = b""
    tokens: list[int] = field(default_factory=list)
    length: bool = False

    def fail(self, error: Exception) -> None:
        with suppress(InvalidStateError):  # cancelled meanwhile
            self.done.set_exception(error)


class OpenVINOEngine:
    """Reads a GGUF (Llama and Qwen families; F16, not Q4_1) or a folder exported for OpenVINO.

    `model` is the identity to report, `files` finds (and fetches) them at the start, `kv_cache_gb` is the
    memory for keys and values, `precision` that of the arithmetic: "f32" gives transformers' greedy text,
    "bf16" is faster and rounds.
    """

    name = "openvino"
    abilities = Abilities()
    control_tokens: tuple[str, ...] = ()

    def __init__(
        self, model: str, files: Callable[[], Path], kv_cache_gb: int = 2, precision: str = "f32"
    ) -> None:
        self.model = model
        self._files = files
        self._kv_cache_gb = kv_cache_gb
        self._properties = {"INFERENCE_PRECISION_HINT": precision}
        self._inbox: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._running: list[_Request] = []
        self._siblings: dict[bytes, list[_Request]] = {}
        self._thread: threading.Thread | None = None
        self._ids = 0

    async def start(self) -> None:
        """Loads the model (seconds) and generates a token. Raises ModelNotLoaded, MissingExtra."""
        await asyncio.to_thread(self._load)
        self._thread = threading.Thread(target=self._run, name="openvino", daemon=True)
        self._thread.start()
        await self.complete(Prompt((Message("user", "Hello"),)), Params(max_tokens=1))

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """One completion; joins the batch at its next step. Raises PromptTooLong, EngineError."""
        if self._thread is None or not self._thread.is_alive():
            raise EngineError("the openvino engine is not running")
        request = _Request(prompt, params)
        self._inbox.put(request)
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
            self._context, self.control_tokens = _facts(path)
            self._pipeline = openvino_genai.ContinuousBatchingPipeline(
                str(path), self._scheduler(), "CPU", self._properties
            )
            self._tokenizer = self._pipeline.get_tokenizer()
            # The tokenizer cuts at a length of its own without a word: know it, so as to refuse instead.
            self._cut_at = self._encode("a " * (2 * self._context)).shape[1]
        except Exception as failed:
            reason = str(failed).strip().splitlines()[-1] if str(failed).strip() else type(failed).__name__
            raise ModelNotLoaded(
                f"OpenVINO cannot load the model {self.model} from {path}: {reason}"
            ) from None

    def _scheduler(self) -> Any:
        scheduler = self._genai.SchedulerConfig()
        scheduler.cache_size = self._kv_cache_gb
        scheduler.enable_prefix_caching = True
        scheduler.max_num_batched_tokens = 2048
        return scheduler

    def _run(self) -> None:
        while self._take():
            try:
                if self._pipeline.has_non_finished_requests():
                    self._pipeline.step()
                for request in list(self._running):
                    self._read(request)
            except Exception as failed:
                self._recover(failed)
        self._drop_all(EngineError("the openvino engine was closed"))

    def _take(self) -> bool:
        """Lets waiting requests join; sleeps when there is nothing to do. False: close."""
        while not self._running or not self._inbox.empty():
            request = self._inbox.get()
            if request is None:
                return False
            if request.done.cancelled():
                continue
            try:
                self._prepare(request)
            except Exception as failed:
                request.fail(failed)
        return True

    def _prepare(self, request: _Request) -> None:
        request.prompt_ids = self._encode(self._text(request.prompt))
        request.key = request.prompt_ids.data.tobytes()
        size, wanted = request.prompt_ids.shape[1], request.params.max_tokens
        if size + wanted > self._context or size >= self._cut_at:
            raise PromptTooLong(self._true_size(request, size), wanted, min(self._context, self._cut_at))
        # The first of a cold prompt prefills alone: together, every sibling would prefill for itself.
        if request.key in self._siblings:
            self._siblings[request.key].append(request)
            self._running.append(request)
        else:
            self._siblings[request.key] = []
            self._add(request)
            self._running.append(request)

    def _add(self, request: _Request) -> None:
        self._ids += 1
        request.handle = self._pipeline.add_request(
            self._ids, request.prompt_ids, self._config(request.params)
        )

    def _read(self, request: _Request) -> None:
        if request.handle is None:
            if request.done.cancelled():
                self._finish(request)
            return
        if request.done.cancelled():
            request.handle.cancel()
            self._finish(request)
            return
        if request.handle.can_read():
            for output in request.handle.read().values():
                request.tokens += output.generated_ids
                request.length = output.finish_reason == self._genai.GenerationFinishReason.LENGTH
            self._release_siblings(request)
        status = request.handle.get_status()
        if status == self._genai.GenerationStatus.RUNNING:
            return
        self._finish(request)
        if status == self._genai.GenerationStatus.FINISHED:
            request.done.set_result(self._completion(request))
        else:
            request.fail(
                EngineError(f"OpenVINO gave a request up ({status.name}): the key-value cache is too small")
            )

    def _finish(self, request: _Request) -> None:
        self._running.remove(request)
        self._release_siblings(request)

    def _release_siblings(self, request: _Request) -> None:
        for sibling in self._siblings.pop(request.key, ()):
            if sibling.handle is None and not sibling.done.cancelled():
                self._add(sibling)

    def _completion(self, request: _Request) -> Completion:
        return Completion(
            text=self._tokenizer.decode(request.tokens, skip_special_tokens=True),
            finish_reason="length" if request.length else "stop",
            usage=Usage(prompt_tokens=request.prompt_ids.shape[1], completion_tokens=len(request.tokens)),
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

    def _true_size(self, request: _Request, size: int) -> int:
        if size < self._cut_at:
            return size
        text = self._text(request.prompt)
        return sum(self._encode(text[at : at + 4096]).shape[1] for at in range(0, len(text), 4096))

    def _recover(self, failed: Exception) -> None:
        logger.error("a step of the openvino engine failed, loading the model again: %s", failed)
        self._drop_all(EngineError(f"a step of the openvino engine failed: {failed}"))
        self._load()

    def _drop_all(self, error: EngineError) -> None:
        for request in self._running:
            request.fail(error)
        self._running.clear()
        self._siblings.clear()


def _facts(path: Path) -> tuple[int, tuple[str, ...]]:
    """Context length in tokens, and the texts of the control tokens."""
    if path.suffix == ".gguf":
        return _gguf_facts(path)
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    tokens = json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8"))
    special = tuple(t["content"] for t in tokens.get("added_tokens_decoder", {}).values() if t.get("special"))
    return int(config["max_position_embeddings"]), special


def _gguf_facts(path: Path) -> tuple[int, tuple[str, ...]]:
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    context = fields[f"{fields['general.architecture'].contents()}.context_length"].contents()
    types, tokens = fields["tokenizer.ggml.token_type"], fields["tokenizer.ggml.tokens"]
    control = [i for i, part in enumerate(types.data) if types.parts[part][0] == _GGUF_CONTROL]
    return int(context), tuple(bytes(tokens.parts[tokens.data[i]]).decode() for i in control)
