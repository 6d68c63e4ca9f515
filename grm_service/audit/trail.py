"""The trail as the service keeps it: one thread appends, what is handed over meanwhile goes in together."""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
import time
from collections import Counter
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

from grm_service.audit import entry
from grm_service.audit.chain import prune
from grm_service.audit.entry import Entry
from grm_service.audit.records import Record, Review
from grm_service.audit.store import Store
from grm_service.errors import AuditUnavailable
from grm_service.principles.wording import normalise

logger = logging.getLogger(__name__)
_MOST = 512
_PATIENCE_S = 15.0
_AGAIN_S = 1.0
_PRUNE_S = 3600.0
_Handed = tuple[Entry, "Future[None]"]


class Trail:
    """Keeps verdicts and reviews; with `keep_text` False a verdict's texts as their hashes only.

    Records of more than `keep_days` days are removed. `writable` tells whether the last attempt to write
    succeeded; after one that failed it is tried each second. `unsound` are principles, normalised, that so
    many reviews call so: those from before the start, and those made through this service.
    """

    def __init__(self, store: Store, keep_text: bool = True, keep_days: float | None = None) -> None:
        self.store = store
        self.writable = True
        self.unsound: Counter[str] = Counter()
        self._keep_days = keep_days
        self._keep_text = keep_text
        self._handed: queue.SimpleQueue[_Handed | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def open(self) -> None:
        """Raises AuditUnavailable."""
        self.store.open()
        for row in self.store.reviews():
            self._learn(entry.to_review(row.body))
        self._thread.start()

    def close(self) -> None:
        """Returns when all that was handed over is written or has failed."""
        if self._thread.is_alive():
            self._handed.put(None)
            self._thread.join(_PATIENCE_S)
        self.store.close()

    async def keep(self, record: Record) -> None:
        """Returns when the verdict is safely in the trail. Raises AuditUnavailable where it may not be."""
        await self._append(entry.of_record(record, self._keep_text))

    async def keep_review(self, review: Review) -> None:
        """As `keep`, for a review."""
        await self._append(entry.of_review(review))
        self._learn(review)

    def _learn(self, review: Review) -> None:
        if review.principle is not None:
            self.unsound[normalise(review.principle)] += 1

    async def _append(self, line: Entry) -> None:
        written: Future[None] = Future()
        self._handed.put((line, written))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await asyncio.wrap_future(written)
        except TimeoutError:
            self.writable = False
            raise AuditUnavailable(f"the audit trail took longer than {_PATIENCE_S:.0f} s") from None

    def _run(self) -> None:
        pruned = -math.inf
        going = True
        while going:
            if self._keep_days is not None and time.monotonic() > pruned + _PRUNE_S:
                pruned = time.monotonic()
                self._prune(self._keep_days)
            batch = self._next()
            going = None not in batch
            if batch or not self.writable:
                self._write([handed for handed in batch if handed is not None])

    def _prune(self, days: float) -> None:
        try:
            if removed := prune(self.store, datetime.now(UTC) - timedelta(days)):
                logger.info("%d records of more than %g days were removed", removed, days)
        except Exception as failed:  # whatever it is, the thread goes on
            logger.error("old records could not be removed: %s", failed)

    def _next(self) -> list[_Handed | None]:
        try:
            batch = [self._handed.get(timeout=_PRUNE_S if self.writable else _AGAIN_S)]
        except queue.Empty:
            return []
        while len(batch) < _MOST and not self._handed.empty():
            batch.append(self._handed.get())
        return batch

    def _write(self, batch: list[_Handed]) -> None:
        # One that nobody waits for any more was refused already.
        batch = [handed for handed in batch if handed[1].set_running_or_notify_cancel()]
        try:
            self.store.append([line for line, _ in batch])
        except Exception as failed:  # whatever it is, the thread goes on
            if self.writable or batch:
                logger.error("%s", failed)
            self.writable = False
            for _, written in batch:
                written.set_exception(AuditUnavailable(str(failed)))
            return
        if not self.writable:
            logger.info("the audit trail can be written again")
        self.writable = True
        for _, written in batch:
            written.set_result(None)
