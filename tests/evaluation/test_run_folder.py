import asyncio
from dataclasses import replace

import pytest

from grm_service.errors import BadTask, EngineUnreachable
from grm_service.evaluation.dataset import Item
from grm_service.evaluation.run import judge_items
from grm_service.evaluation.run_folder import ITEMS, RunFolder, read_items, read_setup
from grm_service.types import Message
from tests.evaluation.judged import SETUP, item

ITEM = Item("0", "s", (Message("user", "Name a prime."),), ("11", "12"), (0,))
SIX = [replace(ITEM, id=str(i)) for i in range(6)]


def judged(item_, **facts):
    return replace(item([(8.0, 3.0)] * 8, name=item_.id), digest=item_.digest, **facts)


async def judge(item_, setup):
    await asyncio.sleep(0)
    return judged(item_)


async def run(path, items=SIX, judge=judge, setup=SETUP, concurrency=2):
    with RunFolder(path, setup) as folder:
        return await judge_items(items, folder, judge, concurrency)


@pytest.mark.anyio
async def test_results_keep_order_with_bounded_concurrency(tmp_path):
    running = max_running = 0

    async def slow_first(item_, setup):
        nonlocal running, max_running
        running += 1
        max_running = max(max_running, running)
        for _ in range(6 - int(item_.id)):
            await asyncio.sleep(0)
        running -= 1
        return judged(item_)

    result = await run(tmp_path, judge=slow_first, concurrency=3)
    assert [each.id for each in result] == ["0", "1", "2", "3", "4", "5"]
    assert max_running == 3
    assert sorted(each.id for each in read_items(tmp_path)) == ["0", "1", "2", "3", "4", "5"]
    assert read_setup(tmp_path) == SETUP


@pytest.mark.anyio
async def test_finished_items_survive_a_failure(tmp_path):
    judged_ids = []

    async def dies(item_, setup):
        judged_ids.append(item_.id)
        if item_.id == "3":
            raise EngineUnreachable("gone")
        return judged(item_)

    with pytest.raises(EngineUnreachable):
        await run(tmp_path, judge=dies, concurrency=1)
    assert judged_ids == ["0", "1", "2", "3"]
    resumed = []

    async def lives(item_, setup):
        resumed.append(item_.id)
        return judged(item_)

    assert len(await run(tmp_path, judge=lives, concurrency=1)) == 6
    assert resumed == ["3", "4", "5"]


@pytest.mark.anyio
async def test_torn_line_is_judged_again(tmp_path):
    await run(tmp_path)
    file = tmp_path / ITEMS
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    assert len(read_items(tmp_path)) == 5
    assert len(await run(tmp_path)) == 6
    assert sorted(file.read_bytes().splitlines()) == sorted(whole.splitlines())


@pytest.mark.anyio
async def test_folder_rejects_another_setup_or_model(tmp_path):
    await run(tmp_path, SIX[:2])
    with pytest.raises(BadTask, match=r"k 8, now 4.*use a new folder"):
        await run(tmp_path, setup=replace(SETUP, k=4))
    with pytest.raises(BadTask, match="judge 'grm', now 'pairwise'"):
        await run(tmp_path, setup=replace(SETUP, judge="pairwise"))
    with pytest.raises(BadTask, match="0 had different texts"):
        await run(tmp_path, [replace(ITEM, responses=("11", "13"))])

    async def other(item_, setup):
        return judged(item_, model="other")

    with pytest.raises(BadTask, match="holds verdicts of None"):
        await run(tmp_path, judge=other)


@pytest.mark.anyio
async def test_folder_is_locked(tmp_path):
    with RunFolder(tmp_path, SETUP), pytest.raises(BadTask, match="another grm eval"):
        await run(tmp_path)


def test_folder_without_a_run(tmp_path):
    with pytest.raises(BadTask, match="holds no run of grm eval"):
        read_items(tmp_path)
