"""Continuous batching with transformers: a paged KV cache, shared prefixes, flash attention and CUDA graphs.

Made for CUDA; the tests run it on a CPU, where it is slow. The requests of transformers' continuous batching
have no seeds, regexes or logprobs. A logits processor adds the seeded noise (seeded_gumbel.py). A request
with a regex or with logprobs is generated token by token, as a series of requests of one token. Each of these
uses a slot in a table on the device, which holds its token mask and receives its top logprobs. The prefix
cache makes such a request cheap.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from llguidance import LLTokenizer
from transformers import GenerationConfig, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
    ContinuousBatchingTemperatureLogitsWarper,
    ContinuousBatchingTopPLogitsWarper,
)

from grm_service.engines.files.metadata import kv_values_per_token
from grm_service.engines.prefixes import PrefixTracker, TokenIds
from grm_service.engines.transformers import seeded_gumbel
from grm_service.engines.transformers.logits_processors import (
    GeneratedRow,
    TokenLogprobs,
    allowed_tokens,
    regex_matcher,
)
from grm_service.errors import EngineError
from grm_service.types import Params

_PAGE = 64
_MAX_BATCH = 256
_SLOTS = 64
_MAX_ALTERNATIVES = 20


class PagedGenerator:
    """A model behind transformers' ContinuousBatchingManager.

    `capacity` is the number of tokens that its cache holds. `kv_cache_gb` is the memory for keys and values
    (GiB); None leaves it to transformers, which uses most of the device's free memory.
    """

    def __init__(
        self, model: Any, grammar: LLTokenizer, end_ids: tuple[int, ...], kv_cache_gb: float | None
    ) -> None:
        self._grammar, self._end_ids = grammar, end_ids
        self._vocab_size = int(model.get_output_embeddings().weight.shape[0])
        self._ids = count()
        self._slots = _Slots(self._vocab_size, model.device)
        self._manager = model.init_continuous_batching(
            generation_config=GenerationConfig(
                do_sample=False, eos_token_id=list(end_ids), pad_token_id=end_ids[0]
            ),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=_PAGE, num_blocks=_num_blocks(model, kv_cache_gb), max_requests_per_batch=_MAX_BATCH
            ),
        )
        self._manager.logit_processor = _logits_processors(self._slots)
        self._manager.warmup()
        self._manager.start()
        self.capacity = int(self._manager.continuous_batching_config.num_blocks) * _PAGE
        self._prefixes = PrefixTracker(_PAGE)
        self._prefilling: list[TokenIds] = []
        self._prefilled = asyncio.Condition()

    @property
    def running(self) -> bool:
        return bool(self._manager.is_running())

    async def generate(self, ids: list[int], params: Params) -> GeneratedRow:
        """Generate after the prompt `ids`; joins the batch at its next step. Raises EngineError."""
        await self._prefill(ids)
        if params.regex is not None or params.alternatives:
            return await self._generate_token_by_token(ids, params)
        tokens = await self._request(ids, params)
        stopped = bool(tokens) and tokens[-1] in self._end_ids
        return GeneratedRow(tokens[:-1] if stopped else tokens, stopped)

    async def close(self) -> None:
        """Stop the manager's thread. Pending requests fail with EngineError."""
        await asyncio.to_thread(self._manager.stop, hard_stop=True)

    async def _prefill(self, ids: list[int]) -> None:
        """Prefill a new prompt once, before the other samples of the same prompt start."""
        prompt = np.array(ids, np.int64)
        async with self._prefilled:
            await self._prefilled.wait_for(lambda: not self._prefixes.should_wait(prompt, self._prefilling))
            if not self._prefixes.needs_prefill(prompt):
                return
            self._prefilling.append(prompt)
        try:
            await self._request(ids, Params(1))
            self._prefixes.mark_computed(prompt)
        finally:
            self._prefilling = [other for other in self._prefilling if other is not prompt]
            async with self._prefilled:
                self._prefilled.notify_all()

    async def _generate_token_by_token(self, ids: list[int], params: Params) -> GeneratedRow:
        row = GeneratedRow([], False)
        matcher = None if params.regex is None else regex_matcher(self._grammar, params.regex)
        one_token = replace(params, max_tokens=1)
        while len(row.tokens) < params.max_tokens:
            if matcher is not None and matcher.is_stopped():
                return replace(row, stopped=True)
            # Tokens that the regex leaves no choice about need no step of the model.
            tokens = matcher.compute_ff_tokens() if matcher is not None else []
            if not tokens or params.alternatives:
                mask = None if matcher is None else allowed_tokens(matcher, self._vocab_size, self._end_ids)
                async with self._slots.reserve(mask) as slot:
                    tokens = await self._request(ids + row.tokens, one_token, slot)
                    if params.alternatives:
                        row.logprobs.append(self._slots.top_logprobs(slot)[: params.alternatives])
            if tokens[0] in self._end_ids:
                return replace(row, stopped=True, logprobs=row.logprobs[: len(row.tokens)])
            if matcher is not None:
                matcher.consume_tokens(tokens)
            row.tokens += tokens[: params.max_tokens - len(row.tokens)]
        return replace(row, stopped=matcher is not None and matcher.is_stopped())

    async def _request(self, ids: list[int], params: Params, slot: int = 0) -> list[int]:
        """Return the tokens that the manager generates after `ids`, an end token included."""
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        name = str(next(self._ids))
        self._manager.register_result_handler(name, partial(_set_result, result))
        sampled = params.temperature > 0
        accepted = self._manager.add_request(
            ids, name, params.max_tokens,
            temperature=params.temperature if sampled else 1.0, top_p=params.top_p if sampled else 1.0,
            seed=params.seed if sampled else -1, slot=slot,
        )  # fmt: skip
        if accepted is None:
            raise EngineError("transformers' continuous batching has stopped")
        try:
            output = await result
        except asyncio.CancelledError:
            self._manager.cancel_request(name)
            self._manager.output_router.result_handlers.pop(name, None)
            raise
        if output.error is not None:
            raise EngineError(f"a step of transformers' continuous batching failed: {output.error}")
        return list(output.generated_tokens)


def _set_result(result: asyncio.Future[Any], output: Any) -> None:
    if not result.done():  # not cancelled in the meantime
        result.set_result(output)


class _Slots:
    """A table on the device with one row for each request of one token: its token mask and its top logprobs.

    Row 0 belongs to all other requests: it allows every token and is never read. A row is written before its
    request is submitted and read after it is done, so the steps in between do not conflict with it.
    """

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        self.mask = torch.ones(_SLOTS + 1, vocab_size, dtype=torch.bool, device=device)
        self.logprobs = torch.zeros(_SLOTS + 1, _MAX_ALTERNATIVES, device=device)
        self.tokens = torch.zeros(_SLOTS + 1, _MAX_ALTERNATIVES, dtype=torch.int64, device=device)
        self._free: asyncio.Queue[int] = asyncio.Queue()
        for slot in range(1, _SLOTS + 1):
            self._free.put_nowait(slot)

    @asynccontextmanager
    async def reserve(self, mask: torch.Tensor | None) -> AsyncIterator[int]:
        """Wait for a free slot and hold it; `mask` None allows every token."""
        slot = await self._free.get()
        try:
            self.mask[slot].copy_(torch.ones(1, dtype=torch.bool) if mask is None else mask)
            yield slot
        finally:
            self._free.put_nowait(slot)

    def top_logprobs(self, slot: int) -> TokenLogprobs:
        return list(zip(self.tokens[slot].tolist(), self.logprobs[slot].tolist(), strict=True))


class _PerRequestProcessor(ContinuousBatchingLogitsProcessor):  # type: ignore[misc]
    """A logits processor with one int32 argument for each request; padding rows have 0."""

    ignored_kwargs: tuple[str, ...] = ()

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> torch.Tensor:
        arguments = torch.zeros(_MAX_BATCH, dtype=torch.int32)
        for i, request in enumerate(requests_with_new_token):
            arguments[i] = self._argument(request.state)
        return arguments

    def _argument(self, state: Any) -> int:
        raise NotImplementedError


class _SlotProcessor(_PerRequestProcessor):
    """Records the top logprobs in the request's slot, then applies the slot's token mask."""

    supported_kwargs: dict[str, type] = {"slot": int}  # noqa: RUF012

    def __init__(self, slots: _Slots) -> None:
        self._slots = slots

    def _argument(self, state: Any) -> int:
        return int(state.logit_processor_kwargs["slot"])

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        slots = tensor_arg[: scores.size(0)].to(torch.int64)
        values, tokens = scores.topk(_MAX_ALTERNATIVES)
        self._slots.logprobs[slots] = values - scores.logsumexp(-1, keepdim=True)
        self._slots.tokens[slots] = tokens
        return scores.masked_fill(~self._slots.mask[slots], float("-inf"))


class _SeededNoise(_PerRequestProcessor):
    """Adds the Gumbel noise of each request's seed to its logits; the seed -1 is greedy."""

    supported_kwargs: dict[str, type] = {"seed": int}  # noqa: RUF012

    def _argument(self, state: Any) -> int:
        seed = state.logit_processor_kwargs["seed"]
        # When a step is prepared, the offset is the number of tokens before the new one.
        return 0 if seed < 0 else seeded_gumbel.noise_key(seed, state.position_offset)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        return scores + seeded_gumbel.gumbel_noise(tensor_arg[: scores.size(0)], scores.size(-1))


def _logits_processors(slots: _Slots) -> ContinuousBatchingLogitsProcessorList:
    processors = [
        _SlotProcessor(slots),
        # These two replace the values here with those of each request.
        ContinuousBatchingTemperatureLogitsWarper(TemperatureLogitsWarper(2.0)),
        ContinuousBatchingTopPLogitsWarper(TopPLogitsWarper(0.5)),
        _SeededNoise(),
    ]
    batched = ContinuousBatchingLogitsProcessorList(LogitsProcessorList(processors))
    batched.tensors_required = len(processors)
    return batched


def _num_blocks(model: Any, kv_cache_gb: float | None) -> int | None:
    if kv_cache_gb is None:
        return None
    values = kv_values_per_token(model.config.get_text_config().to_dict())
    return int(kv_cache_gb * 2**30 / (values * model.dtype.itemsize * _PAGE))
