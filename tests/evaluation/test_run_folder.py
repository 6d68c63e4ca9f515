import asyncio
from dataclasses import replace

import pytest

from grm_service.errors import BadTask, EngineUnreachable
from grm_service.evaluation.dataset import Item
from grm_service.evaluation.run_folder import ITEMS, RunFolder, read_items, read_setup
from grm_service.evaluation.running import judge_all
from grm_service.types import Message
from tests.evaluation.judged import SETUP, item

ITEM = Item("0", "s", (Message("user", "Name a prime."),), ("11", "12"), (0,))
SIX = [replace(ITEM, id=str(i)) for i in range(6)]


def judged(asked, **facts):
    return replace(item([(8.0, 3.0)] * 8, name=asked.id), digest=asked.digest, **facts)


async def ask(asked, setup):
    await asyncio.sleep(0)
    return judged(asked)


async def run(path, items=SIX, ask=ask, setup=SETUP, at_once=2):
    with RunFolder(path, setup) as folder:
        return await judge_all(items, folder, ask, at_once)


@pytest.mark.anyio
async def test_items_come_in_their_order_and_so_many_at_once(tmp_path):
    running, most = 0, 0

    async def slow_first(asked, setup):
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(6 - int(asked.id)):
            await asyncio.sleep(0)
        running -= 1
        return judged(asked)

    found = await run(tmp_path, ask=slow_first, at_once=3)
    assert [each.id for each in found] == ["0", "1", "2", "3", "4", "5"]
    assert most == 3
    assert sorted(each.id for each in read_items(tmp_path)) == ["0", "1", "2", "3", "4", "5"]
    assert read_setup(tmp_path) == SETUP


@pytest.mark.anyio
async def test_what_was_finished_before_a_failure_is_not_judged_again(tmp_path):
    asked_for = []

    async def dies(asked, setup):
        asked_for.append(asked.id)
        if asked.id == "3":
            raise EngineUnreachable("gone")
        return judged(asked)

    with pytest.raises(EngineUnreachable):
        await run(tmp_path, ask=dies, at_once=1)
    assert asked_for == ["0", "1", "2", "3"]
    again = []

    async def lives(asked, setup):
        again.append(asked.id)
        return judged(asked)

    assert len(await run(tmp_path, ask=lives, at_once=1)) == 6
    assert again == ["3", "4", "5"]


@pytest.mark.anyio
async def test_a_line_that_was_cut_off_is_judged_again(tmp_path):
    await run(tmp_path)
    file = tmp_path / ITEMS
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    assert len(read_items(tmp_path)) == 5
    assert len(await run(tmp_path)) == 6
    assert sorted(file.read_bytes().splitlines()) == sorted(whole.splitlines())


@pytest.mark.anyio
async def test_a_folder_holds_one_setup_one_data_and_one_model(tmp_path):
    await run(tmp_path, SIX[:2])
    with pytest.raises(BadTask, match=r"k 8, now 4.*take a new folder"):
        await run(tmp_path, setup=replace(SETUP, k=4))
    with pytest.raises(BadTask, match="judge 'grm', now 'pairwise'"):
        await run(tmp_path, setup=replace(SETUP, judge="pairwise"))
    with pytest.raises(BadTask, match="0 had other texts"):
        await run(tmp_path, [replace(ITEM, responses=("11", "13"))])

    async def other(asked, setup):
        return judged(asked, model="other")

    with pytest.raises(BadTask, match="holds verdicts of None"):
        await run(tmp_path, ask=other)


@pytest.mark.anyio
async def test_two_runs_do_not_write_into_one_folder(tmp_path):
    with RunFolder(tmp_path, SETUP), pytest.raises(BadTask, match="another grm eval"):
        await run(tmp_path)


def test_a_folder_without_a_run_says_so(tmp_path):
    with pytest.raises(BadTask, match="holds no run of grm eval"):
        read_items(tmp_path)
