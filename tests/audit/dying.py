"""A process that appends verdicts until it is killed, and writes the id of each one that is stored."""

import asyncio
import os
from pathlib import Path

from grm_service.audit.store import Store
from grm_service.audit.trail import Trail
from tests.audit.records import record


def append_records(url, key_file, run, output):
    asyncio.run(_append_records(url, Path(key_file), run, output))


async def _append_records(url, key_file, run, output):
    trail = Trail(Store(url, key_file))
    trail.open()

    async def caller(name):
        number = 0
        while True:
            number += 1
            verdict = record(f"{run}-{name}-{number}")
            await trail.append(verdict)
            os.write(output, f"{verdict.id}\n".encode())

    await asyncio.gather(*(caller(name) for name in range(8)))
