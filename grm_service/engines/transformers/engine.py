"""transformers on torch, for any architecture: continuous batching on CUDA, batched `generate` elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from grm_service.engines.base import Abilities
from grm_service.errors import EngineError, ModelNotLoaded, PromptTooLong
from grm_service.types import Alternative, Completion, Message, Params, Prompt, Usage

if TYPE_CHECKING:
    from grm_service.engines.transformers.batched import Batched
    from grm_service.engines.transformers.paged import Paged
    from grm_service.engines.transformers.rows import Likely, RowState


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


class TransformersEngine:
    """Loads with AutoModelForCausalLM. `model` is the identity to report; `files` gives the hub id or folder
    to load, at the start; `kv_cache_gb` bounds keys and values on CUDA (GiB; None: most of what is free).

    `continuous` None: continuous batching where there is CUDA. A row's randomness depends on its seed alone;
    which rows are batched with it can change its text only through floating point.
    """

    name = "transformers"
    abilities = Abilities()
    control_tokens: tuple[str, ...] = ()

    def __init__(
        self,
        model: str,
        files: Callable[[], str],
        kv_cache_gb: float | None = None,
        continuous: bool | None = None,
    ) -> None:
        self.model = model
        self._files = files
        self._kv_cache_gb = kv_cache_gb
        self._continuous = continuous
        self._writer: Batched | Paged | None = None

    @property
    def ready(self) -> bool:
        """False before the start, and for good when continuous batching has crashed."""
        return self._writer is not None and self._writer.running

    async def start(self) -> None:
        """Loads the model and generates a token. Raises ModelNotLoaded."""
        self._writer = self._open(await asyncio.to_thread(self._load))
        await self.complete(Prompt((Message("user", "Hello"),)), Params(max_tokens=1))

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """One completion, generated with whatever else waits. Raises PromptTooLong, EngineError."""
        if self._writer is None:
            raise EngineError("the transformers engine is not running")
        ids = await asyncio.to_thread(encode, self._tokenizer, prompt)
        for room, what in (
            (self._context, "model's context"),
            (self._writer.room, "key-value cache (GRM_KV_CACHE_GB)"),
        ):
            if room is not None and len(ids) + params.max_tokens > room:
                raise PromptTooLong(len(ids), params.max_tokens, room, what)
        return self._completion(ids, await self._writer.write(ids, params))

    async def close(self) -> None:
        """Ends what generates; what is under way fails."""
        if self._writer is not None:
            await self._writer.close()
            self._writer = None

    def _load(self) -> Any:
        import llguidance.hf
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            path = self._files()
            self._tokenizer = AutoTokenizer.from_pretrained(path)
            model = AutoModelForCausalLM.from_pretrained(path, dtype="auto")
        except (OSError, ValueError, ImportError, RuntimeError) as failed:
            reason = str(failed).strip().splitlines()[0] if str(failed).strip() else type(failed).__name__
            raise ModelNotLoaded(f"transformers cannot load the model {self.model}: {reason}") from None
        self._context = int(model.config.get_text_config().max_position_embeddings)
        self.control_tokens = control_tokens(self._tokenizer)
        self._ends = ends(model.generation_config.eos_token_id, self._tokenizer.eos_token_id)
        width = model.get_output_embeddings().weight.shape[0]
        self._grammar = llguidance.hf.from_tokenizer(self._tokenizer, n_vocab=width)
        return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def _open(self, model: Any) -> Batched | Paged:
        if self._continuous if self._continuous is not None else cuda():
            from grm_service.engines.transformers.paged import Paged

            return Paged(model, self._grammar, self._ends, self._kv_cache_gb)
        from grm_service.engines.transformers.batched import Batched

        return Batched(model, self._grammar, self._ends)

    def _completion(self, ids: list[int], written: RowState) -> Completion:
        return Completion(
            text=self._tokenizer.decode(written.tokens, skip_special_tokens=True),
            finish_reason="stop" if written.stopped else "length",
            usage=Usage(len(ids), completion_tokens=len(written.tokens) + written.stopped),
            alternatives=tuple(map(self._told, written.alternatives)),
        )

    def _told(self, likely: Likely) -> tuple[Alternative, ...]:
        return tuple(Alternative(self._tokenizer.decode([token]), value) for token, value in likely)


def templated(tokenizer: Any, prompt: Prompt) -> str:
    """The text that the model continues: training asks for it here, so that it is the same."""
    turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    return str(text) + prompt.continuation


def encode(tokenizer: Any, prompt: Prompt) -> list[int]:
    """The tokens of that text; the template has written every special token that belongs there."""
    return list(tokenizer(templated(tokenizer, prompt), add_special_tokens=False)["input_ids"])


def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Texts that the tokenizer reads as control."""
    return tuple(str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)


def ends(*found: Any) -> tuple[int, ...]:
    """Every token that ends an answer; there is always one, or generation could not stop."""
    listed = [
        token for each in found for token in (each if isinstance(each, list) else [each]) if token is not None
    ]
    if not listed:
        raise ModelNotLoaded("the model names no end-of-sequence token")
    return tuple(dict.fromkeys(listed))
