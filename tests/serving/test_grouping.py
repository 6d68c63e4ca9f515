"""Responses to one prompt that arrive one by one are judged as a group."""

import asyncio

import pytest

from grm_service.cache import ByteCache
from grm_service.callers import Requester
from grm_service.errors import AllUnreadable
from grm_service.serving.grouping import MAX_RESPONSES, Grouping, ResponseGrouper
from grm_service.types import JudgeOptions, Message, Task
from tests.audit.records import record
from tests.waiting import settle, until

pytestmark = pytest.mark.anyio
EIGHT = Grouping(window_s=30, size=8)


class FakeJudge:
    """Records the tasks it judges; the n-th call returns `record(n)`."""

    def __init__(self, delay=0.0, failures=0):
        self.tasks, self.delay, self.failures, self.cancelled = [], delay, failures, 0

    async def __call__(self, task, requester):
        self.tasks.append(task)
        try:
            await asyncio.sleep(self.delay)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failures:
            self.failures -= 1
            raise AllUnreadable(())
        return record(len(self.tasks))


def make_grouper(judge, replay_s=60.0):
    closed = []
    on_closed = lambda outcome, waited: closed.append((outcome, waited))  # noqa: E731
    return ResponseGrouper(judge, on_closed, ByteCache(2**20, replay_s)), closed


def task_of(response, query="q", timeout_s=None):
    return Task((Message("user", query),), (response,), options=JudgeOptions(timeout_s=timeout_s))


async def submit(grouper, *responses, grouping=EIGHT, **options):
    return await asyncio.gather(
        *(grouper.judge(task_of(response, **options), grouping, Requester()) for response in responses)
    )


async def test_complete_group_is_judged_at_once():
    judge = FakeJudge()
    grouper, closed = make_grouper(judge)
    members = await submit(grouper, *"abcdefgh")
    assert [task.responses for task in judge.tasks] == [tuple("abcdefgh")]
    assert [member.place for member in members] == list(range(8))
    assert closed[0][0] == "complete"
    assert closed[0][1] < 5


async def test_prompts_are_grouped_separately():
    judge = FakeJudge()
    grouper, _ = make_grouper(judge)
    prompts = [f"prompt {i}" for i in range(16)]
    await asyncio.gather(
        *(submit(grouper, f"{query} {i}", query=query) for i in range(8) for query in prompts)
    )
    assert len(judge.tasks) == 16
    for task in judge.tasks:
        assert all(response.startswith(task.messages[0].content) for response in task.responses)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Grouping(30, 2, "one"), Grouping(30, 2, "two")),
        (Grouping(30, 2, "one"), Grouping(30, 2)),
    ],
)
async def test_group_ids_separate_groups(first, second):
    judge = FakeJudge()
    grouper, _ = make_grouper(judge)
    await asyncio.gather(
        submit(grouper, "a", "b", grouping=first), submit(grouper, "c", "d", grouping=second)
    )
    assert sorted(task.responses for task in judge.tasks) == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize("other", [Grouping(0, 1), Grouping(30, 2), Grouping(0.05, 8)])
async def test_other_waits_form_other_groups(other):
    """A request is neither held by another one's window nor judged early because of its size."""
    judge = FakeJudge()
    grouper, _ = make_grouper(judge)
    waiting = asyncio.create_task(submit(grouper, *"abcdef"))
    await settle()
    await submit(grouper, *("gh" if other.size == 2 else "g"), grouping=other)
    assert not waiting.done()
    assert len(judge.tasks) == 1
    await submit(grouper, *"gh")
    await waiting
    assert judge.tasks[1].responses == tuple("abcdefgh")


async def test_leaving_member_does_not_end_the_group():
    judge = FakeJudge()
    grouper, _ = make_grouper(judge)
    leader, member = (asyncio.create_task(submit(grouper, r, grouping=Grouping(30, 3))) for r in "ab")
    await settle()
    leader.cancel()
    await settle()
    await submit(grouper, *"cd", grouping=Grouping(30, 3))
    assert (await member)[0].record.verdict == record(1).verdict
    assert judge.tasks[0].responses[:2] == ("a", "b")


async def test_judged_groups_are_bounded_in_bytes():
    judge = FakeJudge()
    grouper = ResponseGrouper(judge, lambda *_: None, cache := ByteCache(50_000, 60))
    for i in range(100):
        await submit(grouper, f"{i} " + "long " * 2000, grouping=Grouping(0, 1))
    assert 0 < cache.bytes <= 50_000
    assert not grouper._open
    assert not grouper._closed


async def test_incomplete_group_closes_with_the_window():
    judge = FakeJudge()
    grouper, closed = make_grouper(judge)
    await submit(grouper, "a", "b", "c", grouping=Grouping(0.05, 8))
    assert judge.tasks[0].responses == ("a", "b", "c")
    assert closed[0][0] == "window"


async def test_lone_response_is_judged_alone():
    judge = FakeJudge()
    grouper, closed = make_grouper(judge)
    await submit(grouper, "a", grouping=Grouping(0.02))
    assert judge.tasks[0].responses == ("a",)
    assert closed[0][0] == "alone"


async def test_waiting_and_judging_share_the_timeout():
    judge = FakeJudge()
    grouper, _ = make_grouper(judge)
    await submit(grouper, "a", timeout_s=0.2)
    assert judge.tasks[0].options.timeout_s == pytest.approx(0.1, abs=0.08)


async def test_identical_responses_are_judged_once():
    """`copies` counts them, so the group is complete."""
    judge = FakeJudge()
    grouper, closed = make_grouper(judge)
    members = await submit(grouper, *"aabbaaab")
    assert judge.tasks[0].responses == ("a", "b")
    assert [member.place for member in members] == [0, 0, 1, 1, 0, 0, 0, 1]
    assert {member.copies for member in members} == {(5, 3)}
    assert closed[0][0] == "complete"


async def test_repeated_response_gets_the_same_verdict():
    """While the group is judged, and for `replay_s` seconds after."""
    judge = FakeJudge(delay=0.05)
    grouper, _ = make_grouper(judge)
    first = asyncio.create_task(submit(grouper, *"ab", grouping=Grouping(30, 2)))
    await until(lambda: judge.tasks)
    repeat = await submit(grouper, "b", grouping=Grouping(30, 2))
    later = await submit(grouper, "a", grouping=Grouping(30, 2))
    assert len(judge.tasks) == 1
    assert repeat[0] == (await first)[1]
    assert later[0] == (await first)[0]


async def test_verdicts_expire_after_replay_s():
    judge = FakeJudge()
    grouper, _ = make_grouper(judge, replay_s=0.0)
    for _ in range(2):
        await submit(grouper, "a", "b", grouping=Grouping(30, 2))
    assert len(judge.tasks) == 2


async def test_late_responses_form_a_new_group():
    judge = FakeJudge()
    grouper, _ = make_grouper(judge)
    await submit(grouper, *"ab", grouping=Grouping(30, 2))
    await submit(grouper, *"cd", grouping=Grouping(30, 2))
    assert [task.responses for task in judge.tasks] == [("a", "b"), ("c", "d")]


async def test_failure_is_shared_but_not_cached():
    judge = FakeJudge(failures=1)
    grouper, _ = make_grouper(judge)
    failed = await asyncio.gather(
        *(grouper.judge(task_of(r), Grouping(30, 2), Requester()) for r in "ab"), return_exceptions=True
    )
    assert [type(error) for error in failed] == [AllUnreadable, AllUnreadable]
    await submit(grouper, *"ab", grouping=Grouping(30, 2))
    assert len(judge.tasks) == 2


async def test_retry_replaces_a_cancelled_response():
    judge = FakeJudge()
    grouper, closed = make_grouper(judge)
    leaving = asyncio.create_task(submit(grouper, "a", grouping=Grouping(30, 3)))
    staying = asyncio.create_task(submit(grouper, "b", grouping=Grouping(30, 3)))
    await settle()
    leaving.cancel()
    await settle()
    retried = asyncio.create_task(submit(grouper, "a", grouping=Grouping(30, 3)))
    await settle()
    assert not judge.tasks, "the retry is not a third response"
    await submit(grouper, "c", grouping=Grouping(30, 3))
    await asyncio.gather(staying, retried)
    assert judge.tasks[0].responses == ("a", "b", "c")
    assert closed[0][0] == "complete"


@pytest.mark.parametrize("judging", [False, True])
async def test_abandoned_group_is_cancelled(judging):
    judge = FakeJudge(delay=30)
    grouper, _ = make_grouper(judge)
    grouping = Grouping(30, 2)
    leaving = [asyncio.create_task(submit(grouper, r, grouping=grouping)) for r in ("ab" if judging else "a")]
    await settle()
    if judging:
        await until(lambda: judge.tasks)
    for request in leaving:
        request.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    await settle()
    assert judge.cancelled == judging
    assert len(judge.tasks) == judging
    assert not grouper._open


async def test_group_size_is_bounded():
    """A group of unknown size closes at MAX_RESPONSES."""
    judge = FakeJudge()
    grouper, closed = make_grouper(judge)
    await submit(grouper, *(str(i) for i in range(MAX_RESPONSES + 1)), grouping=Grouping(0.05))
    assert [len(task.responses) for task in judge.tasks] == [MAX_RESPONSES, 1]
    assert [outcome for outcome, _ in closed] == ["complete", "alone"]
