"""A process that keeps verdicts until it is killed, and tells each that it may forget: it is in the trail."""

import asyncio
import os
from pathlib import Path

from grm_service.audit.store import Store
from grm_service.audit.trail import Trail
from tests.audit.records import record


def keep(url, key_file, run, told):
    asyncio.run(_keep(url, Path(key_file), run, told))


async def _keep(url, key_file, run, told):
    trail = Trail(Store(url, key_file))
    trail.open()

    async def caller(name):
        number = 0
        while True:
            number += 1
            made = record(f"{run}-{name}-{number}")
            await trail.append(made)
            os.write(told, f"{made.id}\n".encode())

    await asyncio.gather(*(caller(name) for name in range(8)))
