"""The audit trail of a running service: one thread appends in batches and confirms each stored record."""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

from grm_service.audit import entry
from grm_service.audit.chain import prune
from grm_service.audit.entry import Entry
from grm_service.audit.queries import Queries
from grm_service.audit.records import Record, Review
from grm_service.audit.store import Store
from grm_service.errors import AuditUnavailable
from grm_service.principles.wording import normalise

logger = logging.getLogger(__name__)
_MAX_BATCH = 512
_WRITE_TIMEOUT_S = 15.0
_RETRY_S = 1.0
_PRUNE_S = 3600.0
_Pending = tuple[Entry, "Future[None]"]


class Trail:
    """The audit trail of a running service. Without `store_text` it stores hashes of a verdict's texts.

    Records older than `keep_days` days are removed. `writable` is whether the last write succeeded; after a
    failure the trail retries every second.
    """

    def __init__(self, store: Store, store_text: bool = True, keep_days: float | None = None) -> None:
        self.store = store
        self.writable = True
        self._unsound: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
        self._keep_days = keep_days
        self._store_text = store_text
        self._pending: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def open(self) -> None:
        """Open the store and start the thread. Raises AuditUnavailable."""
        self.store.open()
        for body, owner in Queries(self.store.database).all_reviews():
            self._count_unsound(entry.to_review(body), owner)
        self._thread.start()

    def close(self) -> None:
        """Wait until all pending records are written or have failed, then close the store."""
        if self._thread.is_alive():
            self._pending.put(None)
            self._thread.join(_WRITE_TIMEOUT_S)
        self.store.close()

    async def append(self, record: Record) -> None:
        """Append a verdict and return once it is stored. Raises AuditUnavailable if it may not be."""
        await self._append(await asyncio.to_thread(entry.from_record, record, self._store_text))

    async def append_review(self, review: Review, owner: str) -> None:
        """Append a review of a verdict of the caller `owner` and return once it is stored.

        Raises AuditUnavailable if it may not be.
        """
        await self._append(entry.from_review(review))
        self._count_unsound(review, owner)

    def unsound(self, owner: str | None) -> Mapping[str, int]:
        """Return, by normalised principle, how many reviews called it unsound: those stored at the start and
        those appended since, of one caller's verdicts or, for None, of all.
        """
        return self._unsound.get(owner, Counter())

    def _count_unsound(self, review: Review, owner: str) -> None:
        if review.principle is not None:
            for whose in (owner, None):
                self._unsound[whose][normalise(review.principle)] += 1

    async def _append(self, line: Entry) -> None:
        written: Future[None] = Future()
        self._pending.put((line, written))
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                await asyncio.wrap_future(written)
        except TimeoutError:
            self.writable = False
            raise AuditUnavailable(f"a write to the audit trail took over {_WRITE_TIMEOUT_S:.0f} s") from None

    def _run(self) -> None:
        pruned = -math.inf
        running = True
        while running:
            if self._keep_days is not None and time.monotonic() > pruned + _PRUNE_S:
                pruned = time.monotonic()
                self._prune(self._keep_days)
            batch = self._next_batch()
            running = None not in batch
            if batch or not self.writable:
                self._write([pending for pending in batch if pending is not None])

    def _prune(self, days: float) -> None:
        try:
            if removed := prune(self.store, datetime.now(UTC) - timedelta(days)):
                logger.info("removed %d records older than %g days", removed, days)
        except Exception as error:  # a failure must not end the thread
            logger.error("old records could not be removed: %s", error)

    def _next_batch(self) -> list[_Pending | None]:
        try:
            batch = [self._pending.get(timeout=_PRUNE_S if self.writable else _RETRY_S)]
        except queue.Empty:
            return []
        while len(batch) < _MAX_BATCH and not self._pending.empty():
            batch.append(self._pending.get())
        return batch

    def _write(self, batch: list[_Pending]) -> None:
        # Skip records whose request has timed out: it has already been answered with an error.
        batch = [pending for pending in batch if pending[1].set_running_or_notify_cancel()]
        try:
            self.store.append([line for line, _ in batch])
        except Exception as error:  # a failure must not end the thread
            if self.writable or batch:
                logger.error("%s", error)
            self.writable = False
            for _, written in batch:
                written.set_exception(AuditUnavailable(str(error)))
            return
        if not self.writable:
            logger.info("the audit trail is writable again")
        self.writable = True
        for _, written in batch:
            written.set_result(None)
