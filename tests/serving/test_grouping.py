"""Responses that come one by one are judged as the group that they are."""

import asyncio

import pytest

from grm_service.errors import AllUnreadable
from grm_service.serving.grouping import MAX_RESPONSES, Grouping, ResponseGrouper
from grm_service.types import JudgeOptions, Message, Requester, Task
from tests.audit.records import record
from tests.waiting import settle, until

pytestmark = pytest.mark.anyio
EIGHT = Grouping(window_s=30, size=8)


class Judge:
    """Keeps what it was asked to judge; its verdict is told by how often it was asked."""

    def __init__(self, delay=0.0, failures=0):
        self.asked, self.delay, self.failures, self.cancelled = [], delay, failures, 0

    async def __call__(self, task, requester):
        self.asked.append(task)
        try:
            await asyncio.sleep(self.delay)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failures:
            self.failures -= 1
            raise AllUnreadable(())
        return record(len(self.asked))


def gathered(judge, replay_s=60.0):
    told = []
    return ResponseGrouper(judge, lambda outcome, waited: told.append((outcome, waited)), replay_s), told


def task(response, query="q", timeout_s=None):
    return Task((Message("user", query),), (response,), options=JudgeOptions(timeout_s=timeout_s))


async def sent(rendezvous, *responses, gathering=EIGHT, **fields):
    return await asyncio.gather(
        *(rendezvous.judge(task(response, **fields), gathering, Requester()) for response in responses)
    )


async def test_a_complete_group_is_judged_as_one_at_once():
    judge = Judge()
    rendezvous, told = gathered(judge)
    answers = await sent(rendezvous, *"abcdefgh")
    assert [asked.responses for asked in judge.asked] == [tuple("abcdefgh")]
    assert [seat.place for seat in answers] == list(range(8))
    assert told[0][0] == "complete"
    assert told[0][1] < 5


async def test_groups_of_several_prompts_do_not_mix():
    judge = Judge()
    rendezvous, _ = gathered(judge)
    prompts = [f"prompt {i}" for i in range(16)]
    await asyncio.gather(
        *(sent(rendezvous, f"{query} {i}", query=query) for i in range(8) for query in prompts)
    )
    assert len(judge.asked) == 16
    for asked in judge.asked:
        assert all(response.startswith(asked.messages[0].content) for response in asked.responses)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Grouping(30, 2, "one"), Grouping(30, 2, "two")),
        (Grouping(30, 2, "one"), Grouping(30, 2)),
    ],
)
async def test_groups_with_ids_of_their_own_do_not_mix(first, second):
    judge = Judge()
    rendezvous, _ = gathered(judge)
    await asyncio.gather(
        sent(rendezvous, "a", "b", gathering=first), sent(rendezvous, "c", "d", gathering=second)
    )
    assert sorted(asked.responses for asked in judge.asked) == [("a", "b"), ("c", "d")]


async def test_when_the_window_closes_whoever_is_there_is_judged():
    judge = Judge()
    rendezvous, told = gathered(judge)
    await sent(rendezvous, "a", "b", "c", gathering=Grouping(0.05, 8))
    assert judge.asked[0].responses == ("a", "b", "c")
    assert told[0][0] == "window"


async def test_who_waits_in_vain_is_judged_alone():
    judge = Judge()
    rendezvous, told = gathered(judge)
    await sent(rendezvous, "a", gathering=Grouping(0.02))
    assert judge.asked[0].responses == ("a",)
    assert told[0][0] == "alone"


async def test_waiting_and_judging_share_the_time():
    judge = Judge()
    rendezvous, _ = gathered(judge)
    await sent(rendezvous, "a", timeout_s=0.2)
    assert judge.asked[0].options.timeout_s == pytest.approx(0.1, abs=0.08)


async def test_two_samples_that_came_out_alike_count_as_two_and_are_judged_once():
    judge = Judge()
    rendezvous, told = gathered(judge)
    answers = await sent(rendezvous, *"aabbaaab")
    assert judge.asked[0].responses == ("a", "b")
    assert [seat.place for seat in answers] == [0, 0, 1, 1, 0, 0, 0, 1]
    assert {seat.copies for seat in answers} == {(5, 3)}
    assert told[0][0] == "complete"


async def test_what_is_sent_again_while_it_is_judged_or_after_gets_its_verdict():
    judge = Judge(delay=0.05)
    rendezvous, _ = gathered(judge)
    first = asyncio.create_task(sent(rendezvous, *"ab", gathering=Grouping(30, 2)))
    await until(lambda: judge.asked)
    again = await sent(rendezvous, "b")
    later = await sent(rendezvous, "a")
    assert len(judge.asked) == 1
    assert again[0] == (await first)[1]
    assert later[0] == (await first)[0]


async def test_a_verdict_is_not_kept_for_ever():
    judge = Judge()
    rendezvous, _ = gathered(judge, replay_s=0.0)
    for _ in range(2):
        await sent(rendezvous, "a", "b", gathering=Grouping(30, 2))
    assert len(judge.asked) == 2


async def test_one_who_is_late_is_judged_with_other_late_ones():
    judge = Judge()
    rendezvous, _ = gathered(judge)
    await sent(rendezvous, *"ab", gathering=Grouping(30, 2))
    await sent(rendezvous, *"cd", gathering=Grouping(30, 2))
    assert [asked.responses for asked in judge.asked] == [("a", "b"), ("c", "d")]


async def test_a_failure_reaches_all_and_is_not_kept():
    judge = Judge(failures=1)
    rendezvous, _ = gathered(judge)
    failed = await asyncio.gather(
        *(rendezvous.judge(task(r), Grouping(30, 2), Requester()) for r in "ab"), return_exceptions=True
    )
    assert [type(one) for one in failed] == [AllUnreadable, AllUnreadable]
    await sent(rendezvous, *"ab", gathering=Grouping(30, 2))
    assert len(judge.asked) == 2


async def test_one_who_leaves_makes_room_for_its_retry():
    judge = Judge()
    rendezvous, told = gathered(judge)
    leaving = asyncio.create_task(sent(rendezvous, "a", gathering=Grouping(30, 3)))
    staying = asyncio.create_task(sent(rendezvous, "b", gathering=Grouping(30, 3)))
    await settle()
    leaving.cancel()
    await settle()
    retried = asyncio.create_task(sent(rendezvous, "a", gathering=Grouping(30, 3)))
    await settle()
    assert not judge.asked, "the retry is not a third sibling"
    await sent(rendezvous, "c", gathering=Grouping(30, 3))
    await asyncio.gather(staying, retried)
    assert judge.asked[0].responses == ("a", "b", "c")
    assert told[0][0] == "complete"


@pytest.mark.parametrize("judging", [False, True])
async def test_when_all_have_left_nothing_is_judged(judging):
    judge = Judge(delay=30)
    rendezvous, _ = gathered(judge)
    gathering = Grouping(30, 2)
    leaving = [
        asyncio.create_task(sent(rendezvous, r, gathering=gathering)) for r in ("ab" if judging else "a")
    ]
    await settle()
    if judging:
        await until(lambda: judge.asked)
    for each in leaving:
        each.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    await settle()
    assert judge.cancelled == judging
    assert len(judge.asked) == judging
    assert not rendezvous._open


async def test_a_group_has_an_end_where_nobody_says_its_size():
    judge = Judge()
    rendezvous, told = gathered(judge)
    await sent(rendezvous, *(str(i) for i in range(MAX_RESPONSES + 1)), gathering=Grouping(0.05))
    assert [len(asked.responses) for asked in judge.asked] == [MAX_RESPONSES, 1]
    assert [outcome for outcome, _ in told] == ["complete", "alone"]
