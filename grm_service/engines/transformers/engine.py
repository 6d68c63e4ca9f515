"""The transformers engine: any architecture, continuous batching on CUDA, batched `generate` elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from grm_service.engines.base import Abilities, ThinkingBehavior
from grm_service.engines.rendering import ChatTemplate, Rendered, decode_with_tags, is_thinking_tag
from grm_service.errors import EngineError, ModelNotLoaded
from grm_service.types import Alternative, Completion, Message, Params, Prompt, Usage

if TYPE_CHECKING:
    from grm_service.engines.transformers.batched import BatchedGenerator
    from grm_service.engines.transformers.logits_processors import GeneratedRow, TokenLogprobs
    from grm_service.engines.transformers.paged import PagedGenerator


def has_cuda() -> bool:
    """Return True if torch is installed and sees a GPU."""
    try:
        # A CPU build sees no GPU, and importing it would add seconds to every start.
        if version("torch").endswith("+cpu"):
            return False
        import torch
    except (ImportError, PackageNotFoundError):
        return False
    return bool(torch.cuda.is_available())


class TransformersEngine:
    """A model loaded with AutoModelForCausalLM.

    `model` is the reported identity. `files` returns the hub id or folder to load; it is called at the start.
    `kv_cache_gb` limits the keys and values on CUDA (GiB; None: most of the free memory). `continuous` None
    means continuous batching if there is CUDA. The randomness of a completion depends on its seed alone; the
    other prompts in its batch can change its text only through floating-point rounding.
    """

    name = "transformers"
    abilities = Abilities()
    thinking = ThinkingBehavior()
    dropped_fields: tuple[str, ...] = ()
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
        self._generator: BatchedGenerator | PagedGenerator | None = None

    @property
    def ready(self) -> bool:
        """False before the start, and for good after continuous batching has crashed."""
        return self._generator is not None and self._generator.running

    async def start(self) -> None:
        """Load the model and generate one token. Raises ModelNotLoaded."""
        self._generator = self._create_generator(await asyncio.to_thread(self._load))
        await self.complete(Prompt((Message("user", "Hello"),)), Params(max_tokens=1, thinking_tokens=0))

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """Generate one completion, batched with other requests. Raises PromptTooLong, EngineError."""
        if self._generator is None:
            raise EngineError("the transformers engine is not running")
        rendered, ids = await asyncio.to_thread(self._encode, prompt, params)
        limit = min(
            rendered.token_limit(len(ids), params.max_tokens, capacity, what)
            for capacity, what in (
                (self._context, "model's context"),
                (self._generator.capacity, "key-value cache (GRM_KV_CACHE_GB)"),
            )
            if capacity is not None
        )
        row = await self._generator.generate(ids, replace(params, max_tokens=limit))
        return self._completion(rendered, ids, row)

    async def close(self) -> None:
        """Stop generating. Pending requests fail with EngineError."""
        if self._generator is not None:
            await self._generator.close()
            self._generator = None

    def _load(self) -> Any:
        import llguidance.hf
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from grm_service.engines.transformers.dtype import placed

        try:
            path = self._files()
            self._tokenizer = AutoTokenizer.from_pretrained(path)
            self._template = chat_template(self._tokenizer)
            model = AutoModelForCausalLM.from_pretrained(path, dtype="auto")
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            raise ModelNotLoaded(
                f"transformers cannot load the model {self.model}: {error_summary(error)}"
            ) from None
        self._context = int(model.config.get_text_config().max_position_embeddings)
        self.thinking = self._template.behavior
        self.control_tokens = control_tokens(self._tokenizer)
        self._decode = decoder(self._tokenizer)
        self._end_ids = end_token_ids(model.generation_config.eos_token_id, self._tokenizer.eos_token_id)
        vocab_size = model.get_output_embeddings().weight.shape[0]
        self._grammar = llguidance.hf.from_tokenizer(self._tokenizer, n_vocab=vocab_size)
        return placed(model, self.model)

    def _create_generator(self, model: Any) -> BatchedGenerator | PagedGenerator:
        if self._continuous if self._continuous is not None else has_cuda():
            from grm_service.engines.transformers.paged import PagedGenerator

            return PagedGenerator(model, self._grammar, self._end_ids, self._kv_cache_gb)
        from grm_service.engines.transformers.batched import BatchedGenerator

        return BatchedGenerator(model, self._grammar, self._end_ids)

    def _encode(self, prompt: Prompt, params: Params) -> tuple[Rendered, list[int]]:
        rendered = self._template.render(prompt, params)
        return rendered, encode(self._tokenizer, rendered.text)

    def _completion(self, rendered: Rendered, ids: list[int], row: GeneratedRow) -> Completion:
        return Completion(
            text=rendered.start_tag + self._decode(row.tokens),
            finish_reason="stop" if row.stopped else "length",
            usage=Usage(len(ids), completion_tokens=len(row.tokens) + row.stopped),
            alternatives=tuple(map(self._alternatives, row.logprobs)),
        )

    def _alternatives(self, logprobs: TokenLogprobs) -> tuple[Alternative, ...]:
        return tuple(Alternative(self._tokenizer.decode([token]), logprob) for token, logprob in logprobs)


def chat_template(tokenizer: Any) -> ChatTemplate:
    """Return the tokenizer's chat template. Training calls this too, so that both use the same text.

    Raises ValueError if it has none.
    """

    def render(messages: list[dict[str, str]], variables: Mapping[str, Any]) -> str:
        fixed = {"add_generation_prompt": True, "tokenize": False}
        return str(tokenizer.apply_chat_template(messages, **{**variables, **fixed}))

    return ChatTemplate(render, str(tokenizer.get_chat_template()))


def encode(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of a rendered prompt. The chat template adds all special tokens."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Return the texts of the tokenizer's special tokens."""
    return tuple(str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)


def decoder(tokenizer: Any) -> Callable[[Sequence[int]], str]:
    """Return the function that decodes completions, without special tokens other than thinking tags."""
    tags = {
        id_: str(token)
        for id_, token in tokenizer.added_tokens_decoder.items()
        if token.special and is_thinking_tag(str(token))
    }
    decode = partial(tokenizer.decode, skip_special_tokens=True)
    return lambda tokens: decode_with_tags(tokens, tags, decode)


def end_token_ids(*sources: Any) -> tuple[int, ...]:
    """Return the distinct end-of-sequence ids; each source is an id, a list of ids or None.

    Raises ModelNotLoaded if there is none, because generation could not stop.
    """
    ids = [
        token
        for source in sources
        for token in (source if isinstance(source, list) else [source])
        if token is not None
    ]
    if not ids:
        raise ModelNotLoaded("the model has no end-of-sequence token")
    return tuple(dict.fromkeys(ids))


def error_summary(error: Exception) -> str:
    """Return the first line of an error's message, or its type's name if there is no message."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
