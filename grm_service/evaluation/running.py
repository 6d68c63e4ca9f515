"""Judges every item once, so many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from grm_service.evaluation.dataset import Item
from grm_service.evaluation.judges import JudgeItem
from grm_service.evaluation.run_folder import ItemResult, RunFolder


async def judge_all(
    items: list[Item],
    folder: RunFolder,
    ask: JudgeItem,
    at_once: int,
    on_judged: Callable[[], None] = lambda: None,
) -> list[ItemResult]:
    """What became of the items, in their order; those that the folder has already are not judged again.

    A failure that says nothing about the judge is raised; what was finished before is kept.
    """
    turns = iter(folder.left(items))

    async def take_turns() -> None:
        for item in turns:
            folder.add(await ask(item, folder.setup))
            on_judged()

    working = [asyncio.create_task(take_turns()) for _ in range(at_once)]
    try:
        await asyncio.gather(*working)
    finally:
        for each in working:
            each.cancel()
        await asyncio.gather(*working, return_exceptions=True)
    return [folder.done[item.id] for item in items]
