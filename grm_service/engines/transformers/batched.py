"""Batched generation with transformers' `generate`, for a CPU and for any model."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from llguidance import LLTokenizer
from transformers import GenerationConfig

from grm_service.engines.transformers.logits_processors import (
    GeneratedRow,
    RecordLogprobs,
    RegexConstraint,
    RowStopping,
    SeededSampling,
)
from grm_service.errors import EngineError
from grm_service.types import Params

logger = logging.getLogger(__name__)
_MAX_ROWS = 32
_GATHER_S = 0.005


@dataclass(slots=True, eq=False)
class _BatchRequest:
    ids: list[int]
    params: Params
    result: Future[GeneratedRow] = field(default_factory=Future)


class BatchedGenerator:
    """A thread that generates one batch after another.

    `capacity` None: no limit on the tokens of a row apart from the model's context.
    """

    capacity: int | None = None

    def __init__(self, model: Any, grammar: LLTokenizer, end_ids: tuple[int, ...]) -> None:
        self._model, self._grammar, self._end_ids = model, grammar, end_ids
        self._requests: queue.SimpleQueue[_BatchRequest | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="transformers", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    async def generate(self, ids: list[int], params: Params) -> GeneratedRow:
        """Generate after the prompt `ids`, in a batch with other waiting requests. Raises EngineError."""
        request = _BatchRequest(ids, params)
        self._requests.put(request)
        return await asyncio.wrap_future(request.result)

    async def close(self) -> None:
        """Stop the thread after its current batch. Waiting requests fail with EngineError."""
        self._requests.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (requests := self._gather()) is not None:
            live = [request for request in requests if not request.result.cancelled()]
            for start in range(0, len(live), _MAX_ROWS):
                batch = live[start : start + _MAX_ROWS]
                try:
                    self._generate(batch)
                except Exception as error:
                    logger.error("a batch of %d rows failed: %s", len(batch), error)
                    _fail(batch, f"transformers failed in a batch of {len(batch)} rows: {error}")

    def _gather(self) -> list[_BatchRequest] | None:
        """Return all waiting requests, at least one; None to stop.

        Waits until no request has arrived for 5 ms, so that the k samples of a task get into one batch.
        """
        requests: list[_BatchRequest] = []
        try:
            while True:
                request = self._requests.get() if not requests else self._requests.get(timeout=_GATHER_S)
                if request is None:
                    _fail(requests, "the transformers engine was closed")
                    return None
                requests.append(request)
        except queue.Empty:
            # Constrained endings are short: sorted apart from critiques, they need not wait for them.
            return sorted(requests, key=lambda request: request.params.max_tokens)

    def _generate(self, batch: list[_BatchRequest]) -> None:
        sizes = [len(request.ids) for request in batch]
        start, pad = max(sizes), self._end_ids[0]
        ids = torch.tensor([[pad] * (start - len(request.ids)) + request.ids for request in batch])
        mask = torch.tensor([[0] * (start - size) + [1] * size for size in sizes])
        params = [request.params for request in batch]
        config = GenerationConfig(
            do_sample=False,  # SeededSampling has already added the noise to the logits
            max_new_tokens=max(p.max_tokens for p in params),
            eos_token_id=list(self._end_ids),
            pad_token_id=pad,
        )
        record = RecordLogprobs(params)
        constraint = RegexConstraint(self._grammar, params, start, self._end_ids)
        with torch.inference_mode():
            output = self._model.generate(
                ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                generation_config=config,
                logits_processor=[record, constraint, SeededSampling(params, sizes, start)],
                stopping_criteria=[RowStopping(params, start, lambda i: batch[i].result.cancelled())],
            )
        for request, tokens, logprobs in zip(batch, output[:, start:].tolist(), record.rows, strict=True):
            tokens = tokens[: request.params.max_tokens]
            end = next((i for i, token in enumerate(tokens) if token in self._end_ids), None)
            row = GeneratedRow(tokens[:end], end is not None, logprobs[: len(tokens[:end])])
            with suppress(InvalidStateError):  # cancelled in the meantime
                request.result.set_result(row)


def _fail(requests: list[_BatchRequest], reason: str) -> None:
    for request in requests:
        with suppress(InvalidStateError):  # cancelled in the meantime
            request.result.set_exception(EngineError(reason))
