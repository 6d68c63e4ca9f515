"""transformers' continuous batching: a paged cache with shared prefixes, flash attention and CUDA graphs.

Made for CUDA; it runs on a CPU too, slowly, which is how the tests reach it. Its requests know neither seeds
nor constraints nor alternatives. Seeds come in by a logits processor (see seeded_gumbel.py). Whatever depends
on more than the last token, or shows what the model thought, is written token by token: each a request of one
token, with a slot in a table on the device that says what is allowed and keeps what was likely. The cache
makes such a request short.
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

from grm_service.engines.files.facts import kept_per_token
from grm_service.engines.prefixes import Ids, Prefixes
from grm_service.engines.transformers import seeded_gumbel
from grm_service.engines.transformers.rows import Likely, RowState, allowed, matcher
from grm_service.errors import EngineError
from grm_service.types import Params

_PAGE = 64
_MOST_ROWS = 256
_SLOTS = 64
_ALTERNATIVES = 20


class Paged:
    """One model behind its ContinuousBatchingManager. `room` is the most tokens that its cache can hold.

    `kv_cache_gb` is the memory for keys and values (GiB); None leaves it to transformers, which takes most
    of what the device has free.
    """

    def __init__(
        self, model: Any, grammar: LLTokenizer, ends: tuple[int, ...], kv_cache_gb: float | None
    ) -> None:
        self._grammar, self._ends = grammar, ends
        self._width = int(model.get_output_embeddings().weight.shape[0])
        self._numbers = count()
        self._slots = _Slots(self._width, model.device)
        self._manager = model.init_continuous_batching(
            generation_config=GenerationConfig(
                do_sample=False, eos_token_id=list(ends), pad_token_id=ends[0]
            ),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=_PAGE, num_blocks=_blocks(model, kv_cache_gb), max_requests_per_batch=_MOST_ROWS
            ),
        )
        self._manager.logit_processor = _processors(self._slots)
        self._manager.warmup()
        self._manager.start()
        self.room = int(self._manager.continuous_batching_config.num_blocks) * _PAGE
        self._prefixes = Prefixes(_PAGE)
        self._computing: list[Ids] = []
        self._computed = asyncio.Condition()

    @property
    def running(self) -> bool:
        return bool(self._manager.is_running())

    async def write(self, ids: list[int], params: Params) -> RowState:
        """Generates after `ids`; joins the batch at its next step. Raises EngineError."""
        await self._prefill(ids)
        if params.regex is not None or params.alternatives:
            return await self._token_by_token(ids, params)
        return self._cut(await self._request(ids, params))

    async def close(self) -> None:
        """Ends the manager's thread; what is under way fails."""
        await asyncio.to_thread(self._manager.stop, hard_stop=True)

    async def _prefill(self, ids: list[int]) -> None:
        """Computes a cold prompt once, before the siblings that share it begin."""
        mine = np.array(ids, np.int64)
        async with self._computed:
            await self._computed.wait_for(lambda: not self._prefixes.worth_waiting(mine, self._computing))
            if not self._prefixes.cold(mine):
                return
            self._computing.append(mine)
        try:
            await self._request(ids, Params(1))
            self._prefixes.computed(mine)
        finally:
            self._computing = [other for other in self._computing if other is not mine]
            async with self._computed:
                self._computed.notify_all()

    async def _token_by_token(self, ids: list[int], params: Params) -> RowState:
        written = RowState([], False)
        following = None if params.regex is None else matcher(self._grammar, params.regex)
        one = replace(params, max_tokens=1)
        while len(written.tokens) < params.max_tokens:
            if following is not None and following.is_stopped():
                return replace(written, stopped=True)
            forced = following.compute_ff_tokens() if following is not None else []
            if not forced or params.alternatives:
                mask = None if following is None else allowed(following, self._width, self._ends)
                async with self._slots.one(mask) as slot:
                    forced = await self._request(ids + written.tokens, one, slot)
                    if params.alternatives:
                        written.alternatives.append(self._slots.likely(slot)[: params.alternatives])
            if forced[0] in self._ends:
                return replace(
                    written, stopped=True, alternatives=written.alternatives[: len(written.tokens)]
                )
            if following is not None:
                following.consume_tokens(forced)
            written.tokens += forced[: params.max_tokens - len(written.tokens)]
        return replace(written, stopped=following is not None and following.is_stopped())

    def _cut(self, tokens: list[int]) -> RowState:
        stopped = bool(tokens) and tokens[-1] in self._ends
        return RowState(tokens[:-1] if stopped else tokens, stopped)

    async def _request(self, ids: list[int], params: Params, slot: int = 0) -> list[int]:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        name = str(next(self._numbers))
        self._manager.register_result_handler(name, partial(_hand_over, done))
        warm = params.temperature > 0
        accepted = self._manager.add_request(
            ids, name, params.max_tokens,
            temperature=params.temperature if warm else 1.0, top_p=params.top_p if warm else 1.0,
            seed=params.seed if warm else -1, slot=slot,
        )  # fmt: skip
        if accepted is None:
            raise EngineError("transformers' continuous batching has stopped")
        try:
            output = await done
        except asyncio.CancelledError:
            self._manager.cancel_request(name)
            self._manager.output_router.result_handlers.pop(name, None)
            raise
        if output.error is not None:
            raise EngineError(f"a step of transformers' continuous batching failed: {output.error}")
        return list(output.generated_tokens)


def _hand_over(done: asyncio.Future[Any], output: Any) -> None:
    if not done.done():  # cancelled meanwhile
        done.set_result(output)


class _Slots:
    """Rows of a table on the device, for requests of one token: what is allowed, and what was likely.

    Row 0 is everybody else's: all is allowed and nobody reads it. A row is written before its request is
    handed in and read after it is done, so no step that runs meanwhile is disturbed.
    """

    def __init__(self, width: int, device: torch.device) -> None:
        self.mask = torch.ones(_SLOTS + 1, width, dtype=torch.bool, device=device)
        self.values = torch.zeros(_SLOTS + 1, _ALTERNATIVES, device=device)
        self.tokens = torch.zeros(_SLOTS + 1, _ALTERNATIVES, dtype=torch.int64, device=device)
        self._free: asyncio.Queue[int] = asyncio.Queue()
        for slot in range(1, _SLOTS + 1):
            self._free.put_nowait(slot)

    @asynccontextmanager
    async def one(self, mask: torch.Tensor | None) -> AsyncIterator[int]:
        slot = await self._free.get()
        try:
            self.mask[slot].copy_(torch.ones(1, dtype=torch.bool) if mask is None else mask)
            yield slot
        finally:
            self._free.put_nowait(slot)

    def likely(self, slot: int) -> Likely:
        return list(zip(self.tokens[slot].tolist(), self.values[slot].tolist(), strict=True))


class _PerRequest(ContinuousBatchingLogitsProcessor):  # type: ignore[misc]
    """A processor with one number a request; rows of padding get 0."""

    ignored_kwargs: tuple[str, ...] = ()

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> torch.Tensor:
        numbers = torch.zeros(_MOST_ROWS, dtype=torch.int32)
        for i, request in enumerate(requests_with_new_token):
            numbers[i] = self._number(request.state)
        return numbers

    def _number(self, state: Any) -> int:
        raise NotImplementedError


class _Table(_PerRequest):
    """Keeps the likeliest tokens of a request's slot, then leaves only the allowed ones."""

    supported_kwargs: dict[str, type] = {"slot": int}  # noqa: RUF012

    def __init__(self, slots: _Slots) -> None:
        self._slots = slots

    def _number(self, state: Any) -> int:
        return int(state.logit_processor_kwargs["slot"])

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        slots = tensor_arg[: scores.size(0)].to(torch.int64)
        values, tokens = scores.topk(_ALTERNATIVES)
        self._slots.values[slots] = values - scores.logsumexp(-1, keepdim=True)
        self._slots.tokens[slots] = tokens
        return scores.masked_fill(~self._slots.mask[slots], float("-inf"))


class _Chance(_PerRequest):
    """Puts a request's own chance into its logits; a seed of -1 is greedy."""

    supported_kwargs: dict[str, type] = {"seed": int}  # noqa: RUF012

    def _number(self, state: Any) -> int:
        seed = state.logit_processor_kwargs["seed"]
        # Prepared with a step, the offset counts all tokens that stand before the new one.
        return 0 if seed < 0 else seeded_gumbel.key(seed, state.position_offset)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        return scores + seeded_gumbel.gumbel(tensor_arg[: scores.size(0)], scores.size(-1))


def _processors(slots: _Slots) -> ContinuousBatchingLogitsProcessorList:
    # The two of transformers' own take their values from each request.
    listed = [
        _Table(slots),
        ContinuousBatchingTemperatureLogitsWarper(TemperatureLogitsWarper(2.0)),
        ContinuousBatchingTopPLogitsWarper(TopPLogitsWarper(0.5)),
        _Chance(),
    ]
    processors = ContinuousBatchingLogitsProcessorList(LogitsProcessorList(listed))
    processors.tensors_required = len(listed)
    return processors


def _blocks(model: Any, kv_cache_gb: float | None) -> int | None:
    if kv_cache_gb is None:
        return None
    numbers = kept_per_token(model.config.get_text_config().to_dict())
    return int(kv_cache_gb * 2**30 / (numbers * model.dtype.itemsize * _PAGE))
