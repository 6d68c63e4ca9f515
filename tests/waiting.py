"""Waiting in tests: for other tasks to have had their turn, or for something to be so."""

import asyncio


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)
