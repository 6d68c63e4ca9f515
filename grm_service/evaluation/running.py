"""Judges every item once, so many at a time."""

from __future__ import annotations

from collections.abc import Callable

from grm_service.concurrency import for_each
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

    async def judge(item: Item) -> None:
        folder.add(await ask(item, folder.setup))
        on_judged()

    await for_each(folder.left(items), judge, at_once)
    return [folder.done[item.id] for item in items]
