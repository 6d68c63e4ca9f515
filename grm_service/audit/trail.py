"""The audit trail of a running service: one thread appends in batches and confirms each stored record."""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

from grm_service.audit import entry
from grm_service.audit.chain import prune_in_steps
from grm_service.audit.entry import Entry
from grm_service.audit.queries import Queries
from grm_service.audit.records import Record, Review
from grm_service.audit.store import Store
from grm_service.concurrency import off_the_loop
from grm_service.errors import AuditBroken, AuditUnavailable
from grm_service.lengths import task_chars
from grm_service.principles.wording import normalise

logger = logging.getLogger(__name__)
_MAX_BATCH = 512
_WRITE_TIMEOUT_S = 15.0
_TICK_S = 1.0
_PRUNE_S = 3600.0
_Pending = tuple[Entry, "Future[None]"]


class Trail:
    """The audit trail of a running service. Without `store_text` it stores hashes of a verdict's texts.

    Records older than `keep_days` days are removed. `failure` is why the last write failed, None if it
    succeeded: the trail retries every second, but a broken trail stays broken until the service is started
    again. The head is noted outside the database once a second.
    """

    def __init__(self, store: Store, store_text: bool = True, keep_days: float | None = None) -> None:
        self.store = store
        self.failure: AuditUnavailable | None = None
        self._unsound: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
        self._keep_days = keep_days
        self._store_text = store_text
        self._pending: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    @property
    def broken(self) -> bool:
        """Whether the trail is not as this service wrote it."""
        return isinstance(self.failure, AuditBroken)

    @property
    def writable(self) -> bool:
        """Whether a record could be stored now, as far as is known."""
        return self.failure is None

    def require_writable(self) -> None:
        """Raise AuditUnavailable, or AuditBroken, with the reason if records cannot be stored now."""
        if self.failure is not None:
            raise _copy(self.failure)
        self.store.database.check_file()

    def open(self) -> None:
        """Open the store and start the thread. Raises AuditUnavailable.

        A broken trail is opened too, so that people can read what is left of it; nothing is written to it.
        """
        try:
            self.store.open()
            for body, owner in Queries(self.store.database).all_reviews():
                self._count_unsound(entry.to_review(body), owner)
        except AuditBroken as broken:
            self._fail(broken)
        self._thread.start()

    def close(self) -> None:
        """Wait until all pending records are written or have failed, then close the store."""
        if self._thread.is_alive():
            self._pending.put(None)
            self._thread.join(_WRITE_TIMEOUT_S)
        self.store.close()

    async def append(self, record: Record) -> None:
        """Append a verdict and return once it is stored. Raises AuditUnavailable if it may not be."""
        written = sum(
            len(sample.text) + len(sample.thinking.text if sample.thinking else "")
            for sample in record.verdict.samples
        )
        chars = task_chars(record.task) + written
        await self._append(await off_the_loop(chars, entry.from_record, record, self._store_text))

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
            slow = AuditUnavailable(f"a write to the audit trail took over {_WRITE_TIMEOUT_S:.0f} s")
            self.failure = self.failure or slow
            raise slow from None

    def _run(self) -> None:
        pruned = noted = -math.inf
        running = True
        removal: Iterator[int] = iter(())
        while running:
            if self._keep_days is not None and time.monotonic() > pruned + _PRUNE_S:
                pruned = time.monotonic()
                removal = self._prune(self._keep_days)
            removed = next(removal, 0)
            batch = self._next_batch(0 if removed else _TICK_S)
            running = None not in batch
            if batch or not self._is_sound():
                self._write([pending for pending in batch if pending is not None])
            if time.monotonic() > noted + _TICK_S:
                noted = time.monotonic()
                self._note()

    def _prune(self, days: float) -> Iterator[int]:
        """Remove old records, a few at each step, and yield how many; nothing is raised."""
        removed = 0
        try:
            if not self.broken:
                for step in prune_in_steps(self.store, datetime.now(UTC) - timedelta(days)):
                    removed += step
                    yield step
        except AuditBroken as broken:
            self._fail(broken)
        except Exception as error:  # a failure must not end the thread
            logger.error("old records could not be removed: %s", error)
        if removed:
            logger.info("removed %d records older than %g days", removed, days)

    def _note(self) -> None:
        try:
            self.store.note()
        except AuditBroken as broken:
            self._fail(broken)
        except Exception as error:  # a failure must not end the thread
            logger.error("the head of the audit trail could not be noted: %s", error)

    def _next_batch(self, timeout_s: float) -> list[_Pending | None]:
        try:
            batch = [self._pending.get(timeout=timeout_s)]
        except queue.Empty:
            return []
        while len(batch) < _MAX_BATCH and not self._pending.empty():
            batch.append(self._pending.get())
        return batch

    def _is_sound(self) -> bool:
        try:
            self.require_writable()
        except AuditUnavailable:
            return self.broken  # nothing is retried on a broken trail
        return True

    def _write(self, batch: list[_Pending]) -> None:
        # Skip records whose request has timed out: it has already been answered with an error.
        batch = [pending for pending in batch if pending[1].set_running_or_notify_cancel()]
        try:
            if self.failure is not None and self.broken:
                raise _copy(self.failure)
            self.store.append([line for line, _ in batch])
        except Exception as error:  # a failure must not end the thread
            self._fail(error)
            for _, written in batch:
                written.set_exception(_copy(error))
            return
        if self.failure is not None:
            logger.info("the audit trail is writable again")
        self.failure = None
        for _, written in batch:
            written.set_result(None)

    def _fail(self, error: Exception) -> None:
        """Remember why the trail cannot be written, and log it once; a break outlasts other failures."""
        if self.broken:
            return
        if str(error) != str(self.failure):
            logger.error("%s", error)
        self.failure = _copy(error)


def _copy(error: Exception) -> AuditUnavailable:
    """Return a new failure: raised again and again, one exception would collect a traceback each time."""
    return AuditBroken(str(error)) if isinstance(error, AuditBroken) else AuditUnavailable(str(error))
