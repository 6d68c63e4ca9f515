"""transformers on torch: any architecture, CUDA or CPU; what waits is generated together, a seed a row."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from grm_service.engines.base import Abilities
from grm_service.errors import EngineError, MissingExtra, ModelNotLoaded, PromptTooLong
from grm_service.types import Completion, Message, Params, Prompt, Usage

logger = logging.getLogger(__name__)
_MOST_ROWS = 32
_GATHER_S = 0.005


def cuda() -> bool:
    """Whether torch is installed and sees a GPU."""
    try:
        # A CPU build sees none, and importing it would cost seconds of every start.
        if version("torch").endswith("+cpu"):
            return False
        import torch
    except (ImportError, PackageNotFoundError):
        return False
    return bool(torch.cuda.is_available())


@dataclass(slots=True, eq=False)
class _Row:
    ids: list[int]
    params: Params
    done: Future[Completion] = field(default_factory=Future)


class TransformersEngine:
    """Runs `generate` over all that waits. `model` is the identity to report; `files` gives the hub id or
    folder to load, at the start.

    A row's randomness depends on its seed alone; which rows are batched with it can change its text only
    through floating point.
    """

    name = "transformers"
    abilities = Abilities()
    ready = True
    control_tokens: tuple[str, ...] = ()

    def __init__(self, model: str, files: Callable[[], str]) -> None:
        self.model = model
        self._files = files
        self._inbox: queue.SimpleQueue[_Row | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        """Loads the model and generates a token. Raises ModelNotLoaded, MissingExtra."""
        await asyncio.to_thread(self._load)
        self._thread = threading.Thread(target=self._run, name="transformers", daemon=True)
        self._thread.start()
        await self.complete(Prompt((Message("user", "Hello"),)), Params(max_tokens=1))

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """One completion, generated with whatever else waits. Raises PromptTooLong, EngineError."""
        if self._thread is None:
            raise EngineError("the transformers engine is not running")
        ids = await asyncio.to_thread(self._encode, prompt)
        if len(ids) + params.max_tokens > self._context:
            raise PromptTooLong(len(ids), params.max_tokens, self._context)
        row = _Row(ids, params)
        self._inbox.put(row)
        return await asyncio.wrap_future(row.done)

    async def close(self) -> None:
        """Ends the thread after its batch; what still waits fails."""
        if self._thread is not None:
            self._inbox.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    def _load(self) -> None:
        try:
            import llguidance.hf
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError:
            raise MissingExtra("local", "the transformers engine") from None
        try:
            path = self._files()
            self._tokenizer = AutoTokenizer.from_pretrained(path)
            model = AutoModelForCausalLM.from_pretrained(path, dtype="auto")
        except (OSError, ValueError, ImportError, RuntimeError) as failed:
            reason = str(failed).strip().splitlines()[0] if str(failed).strip() else type(failed).__name__
            raise ModelNotLoaded(f"transformers cannot load the model {self.model}: {reason}") from None
        self._model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self._context = int(model.config.get_text_config().max_position_embeddings)
        self.control_tokens = tuple(
            str(token) for token in self._tokenizer.added_tokens_decoder.values() if token.special
        )
        self._ends = _ends(model.generation_config.eos_token_id, self._tokenizer.eos_token_id)
        width = model.get_output_embeddings().weight.shape[0]
        self._grammar = llguidance.hf.from_tokenizer(self._tokenizer, n_vocab=width)

    def _encode(self, prompt: Prompt) -> list[int]:
        turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
        text = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        # The template has written every special token that belongs here.
        return list(self._tokenizer(text + prompt.continuation, add_special_tokens=False)["input_ids"])

    # -- on the engine's thread ---------------------------------------------------------------------

    def _run(self) -> None:
        while (rows := self._gather()) is not None:
            live = [row for row in rows if not row.done.cancelled()]
            for start in range(0, len(live), _MOST_ROWS):
                batch = live[start : start + _MOST_ROWS]
                try:
                    self._generate(batch)
                except Exception as failed:
                    logger.error("a batch of %d rows failed: %s", len(batch), failed)
                    _fail(batch, f"transformers failed in a batch of {len(batch)} rows: {failed}")

    def _gather(self) -> list[_Row] | None:
        """All that waits, at least one; short pauses let the k samples of a request arrive together."""
        rows: list[_Row] = []
        try:
            while True:
                row = self._inbox.get() if not rows else self._inbox.get(timeout=_GATHER_S)
                if row is None:
                    _fail(rows, "the transformers engine was closed")
                    return None
                rows.append(row)
        except queue.Empty:
            # Constrained endings are short: apart from critiques they need not wait for them.
            return sorted(rows, key=lambda row: row.params.max_tokens)

    def _generate(self, rows: list[_Row]) -> None:
        import torch
        from transformers import GenerationConfig

        from grm_service.engines.rows import Constrain, Draw, Finish

        longest = max(len(row.ids) for row in rows)
        pad = self._ends[0]
        ids = torch.tensor([[pad] * (longest - len(row.ids)) + row.ids for row in rows])
        mask = torch.tensor([[0] * (longest - len(row.ids)) + [1] * len(row.ids) for row in rows])
        params = [row.params for row in rows]
        config = GenerationConfig(
            do_sample=False,  # Draw has put the chance into the logits
            max_new_tokens=max(p.max_tokens for p in params),
            eos_token_id=list(self._ends),
            pad_token_id=pad,
        )
        with torch.inference_mode():
            output = self._model.generate(
                ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                generation_config=config,
                logits_processor=[Constrain(self._grammar, params, longest, self._ends), Draw(params)],
                stopping_criteria=[Finish(params, longest, lambda i: rows[i].done.cancelled())],
            )
        for row, tokens in zip(rows, output[:, longest:].tolist(), strict=True):
            self._hand_over(row, tokens)

    def _hand_over(self, row: _Row, tokens: list[int]) -> None:
        end = next((i for i, token in enumerate(tokens) if token in self._ends), None)
        written = tokens[: row.params.max_tokens if end is None else min(end, row.params.max_tokens)]
        stopped = end is not None and end < row.params.max_tokens
        completion = Completion(
            text=self._tokenizer.decode(written, skip_special_tokens=True),
            finish_reason="stop" if stopped else "length",
            usage=Usage(prompt_tokens=len(row.ids), completion_tokens=len(written) + stopped),
        )
        with suppress(InvalidStateError):  # cancelled meanwhile
            row.done.set_result(completion)


def _ends(*found: Any) -> tuple[int, ...]:
    """Every token that ends an answer; there is always one, or generation could not stop."""
    listed = [
        token for each in found for token in (each if isinstance(each, list) else [each]) if token is not None
    ]
    if not listed:
        raise ModelNotLoaded("the model names no end-of-sequence token")
    return tuple(dict.fromkeys(listed))


def _fail(rows: list[_Row], reason: str) -> None:
    for row in rows:
        with suppress(InvalidStateError):  # cancelled meanwhile
            row.done.set_exception(EngineError(reason))
