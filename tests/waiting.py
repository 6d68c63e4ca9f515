"""Waiting in tests: for other tasks to have had their turn, or for something to be so.

No test asserts a duration that a slow or busy machine could miss: durations are measured by `make bench`.
"""

import asyncio

HANG_S = 60
"""After so many seconds a test counts as hanging. Nothing that it guards takes more than a few."""


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def until(condition):
    async with asyncio.timeout(HANG_S):
        while not condition():
            await asyncio.sleep(0.01)
