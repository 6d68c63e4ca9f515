"""Plain `generate` over all that waits: for a CPU, and for every model that transformers knows."""

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

from grm_service.engines.transformers.rows import Constrain, Draw, Finish, Look, RowState
from grm_service.errors import EngineError
from grm_service.types import Params

logger = logging.getLogger(__name__)
_MOST_ROWS = 32
_GATHER_S = 0.005


@dataclass(slots=True, eq=False)
class _BatchRow:
    ids: list[int]
    params: Params
    done: Future[RowState] = field(default_factory=Future)


class Batched:
    """A thread that generates one batch after the other. `room` bounds a row's tokens: only the context."""

    room: int | None = None

    def __init__(self, model: Any, grammar: LLTokenizer, ends: tuple[int, ...]) -> None:
        self._model, self._grammar, self._ends = model, grammar, ends
        self._inbox: queue.SimpleQueue[_BatchRow | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="transformers", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    async def write(self, ids: list[int], params: Params) -> RowState:
        """Generates after `ids`, with whatever else waits. Raises EngineError."""
        row = _BatchRow(ids, params)
        self._inbox.put(row)
        return await asyncio.wrap_future(row.done)

    async def close(self) -> None:
        """Ends the thread after its batch; what still waits fails."""
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)

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

    def _gather(self) -> list[_BatchRow] | None:
        """All that waits, at least one; short pauses let the k samples of a request arrive together."""
        rows: list[_BatchRow] = []
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

    def _generate(self, rows: list[_BatchRow]) -> None:
        sizes = [len(row.ids) for row in rows]
        start, pad = max(sizes), self._ends[0]
        ids = torch.tensor([[pad] * (start - len(row.ids)) + row.ids for row in rows])
        mask = torch.tensor([[0] * (start - size) + [1] * size for size in sizes])
        params = [row.params for row in rows]
        config = GenerationConfig(
            do_sample=False,  # Draw has put the chance into the logits
            max_new_tokens=max(p.max_tokens for p in params),
            eos_token_id=list(self._ends),
            pad_token_id=pad,
        )
        look, constrain = Look(params), Constrain(self._grammar, params, start, self._ends)
        with torch.inference_mode():
            output = self._model.generate(
                ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                generation_config=config,
                logits_processor=[look, constrain, Draw(params, sizes, start)],
                stopping_criteria=[Finish(params, start, lambda i: rows[i].done.cancelled())],
            )
        for row, tokens, seen in zip(rows, output[:, start:].tolist(), look.seen, strict=True):
            tokens = tokens[: row.params.max_tokens]
            end = next((i for i, token in enumerate(tokens) if token in self._ends), None)
            with suppress(InvalidStateError):  # cancelled meanwhile
                row.done.set_result(RowState(tokens[:end], end is not None, seen[: len(tokens[:end])]))


def _fail(rows: list[_BatchRow], reason: str) -> None:
    for row in rows:
        with suppress(InvalidStateError):  # cancelled meanwhile
            row.done.set_exception(EngineError(reason))
