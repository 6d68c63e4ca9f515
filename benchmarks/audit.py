"""The cost of the audit trail: within a judgement, and for many concurrent verdicts."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks import workload
from benchmarks.results import Row, Table
from grm_service.api.schemas import RewardRequest
from grm_service.audit import entry
from grm_service.audit.chain import verify
from grm_service.audit.records import Record
from grm_service.factory import open_service
from grm_service.serving.service import Service
from grm_service.settings import Settings

_REPEATS = 5
_VERDICTS = 5000
_CALLERS = 256


def tables() -> list[Table]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            audit_url=f"sqlite:///{folder}/audit.db", audit_key_file=Path(folder) / "audit.key"
        )
        rows = asyncio.run(_measure(open_service(settings)))
    notes = (
        "SQLite on a local disk, every commit synchronised. A judgement: a pair of about 1,000 prompt "
        f"tokens, k = 8, median of {_REPEATS}; its write lasts from the verdict to the acknowledged record. "
        f"Many at once: {_VERDICTS} such verdicts from {_CALLERS} callers, serialised as canonical JSON, "
        "chained and committed in groups."
    )
    return [Table("The audit trail", rows, notes)]


async def _measure(service: Service) -> list[Row]:
    await service.start()
    try:
        return [*await _beside(service), *await _many(service)]
    finally:
        await service.close()


async def _judged(service: Service) -> Record:
    return await service.judge(RewardRequest.model_validate(workload.request(8)).to_task())


async def _beside(service: Service) -> list[Row]:
    append, spent = service.trail.append, list[float]()

    async def timed(record: Record) -> None:
        begun = time.perf_counter()
        await append(record)
        spent.append(time.perf_counter() - begun)

    service.trail.append = timed  # type: ignore[method-assign]
    await _judged(service)
    wholes = []
    for _ in range(_REPEATS):
        begun = time.perf_counter()
        await _judged(service)
        wholes.append(time.perf_counter() - begun)
    service.trail.append = append  # type: ignore[method-assign]
    write, whole = workload.median(spent[1:]), workload.median(wholes)
    return [
        Row("a write in a judgement's time, embedded engine", f"{write / whole:.2%}", "at most 2 %",
            write / whole <= 0.02, f"{write:.4f} · {whole:.2f}"),
    ]  # fmt: skip


async def _many(service: Service) -> list[Row]:
    record, turn = await _judged(service), asyncio.Semaphore(_CALLERS)

    async def one(number: int) -> None:
        async with turn:
            await service.trail.append(replace(record, id=f"vd_{number}"))

    begun = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(_VERDICTS)))
    writing = time.perf_counter() - begun
    begun = time.perf_counter()
    checked = await asyncio.to_thread(verify, service.trail.store)
    reading = time.perf_counter() - begun
    if checked.bad is not None:
        raise RuntimeError(f"the trail is broken: {checked}")
    size = len(entry.from_record(record).body) / 1024
    return [
        Row(f"verdicts stored a second ({size:.0f} KiB each)", f"{_VERDICTS / writing:,.0f}",
            "at least 1,000", _VERDICTS / writing >= 1000, f"{writing:.2f}"),
        Row("records verified a second", f"{checked.records / reading:,.0f}", seconds=f"{reading:.2f}"),
    ]  # fmt: skip
