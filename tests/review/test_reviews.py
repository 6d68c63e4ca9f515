"""The archive on a trail, without a server."""

import asyncio
import contextlib
import tracemalloc
from dataclasses import replace

import pytest

from grm_service.audit.queries import Search
from grm_service.audit.store import Store
from grm_service.audit.trail import Trail
from grm_service.callers import NOBODY, Caller
from grm_service.errors import AuditBroken, BadTask, UnknownVerdict
from grm_service.review.reviews import ReviewContent, VerdictArchive
from tests.audit.records import record

pytestmark = pytest.mark.anyio
ANN, BOB = Caller("ann"), Caller("bob")


@pytest.fixture
def archive(tmp_path):
    """An archive of the given records. Use as `async with`."""

    @contextlib.asynccontextmanager
    async def _archive(*records, **settings):
        trail = Trail(Store(f"sqlite:///{tmp_path}/audit.db", tmp_path / "key"), **settings)
        await asyncio.to_thread(trail.open)
        try:
            for each in records:
                await trail.append(each)
            yield VerdictArchive(trail)
        finally:
            await asyncio.to_thread(trail.close)

    return _archive


async def add(verdicts, caller, id_, content):
    return await verdicts.add_review(caller, verdicts.listed(caller, id_), content)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"decision": "agree", "scores": (1.0, 2.0)}, "takes no scores"),
        ({"decision": "overrule"}, "needs the right ranking"),
        ({"decision": "overrule", "ranking": (1,)}, "each of the 2 responses"),
        ({"decision": "unsound_principle", "principle": "x", "ranking": (1, 2)}, "nothing else"),
    ],
)
def test_invalid_content_is_refused(fields, message):
    with pytest.raises(BadTask, match=message):
        ReviewContent("ann", **fields).check(responses=2)


async def test_callers_see_their_own_verdicts(archive):
    async with archive(record(1, caller="ann", worth=1.0)) as verdicts:
        for caller, count in ((ANN, 1), (BOB, 0), (NOBODY, 1)):
            assert len(verdicts.browse(caller, Search())) == count
            assert len(verdicts.queue(caller, Search())) == count
        with pytest.raises(UnknownVerdict):
            verdicts.find(BOB, "vd_1")
        with pytest.raises(UnknownVerdict):
            await add(verdicts, BOB, "vd_1", ReviewContent("bob", "agree"))


async def test_review_removes_from_queue(archive):
    async with archive(record(1, worth=1.0), record(2, worth=2.0), record(3)) as verdicts:
        assert [each.id for each in verdicts.queue(NOBODY, Search())] == ["vd_2", "vd_1"]
        review = await add(verdicts, NOBODY, "vd_2", ReviewContent("ann", "agree"))
        assert [each.id for each in verdicts.queue(NOBODY, Search())] == ["vd_1"]
        _, reviews = verdicts.find(NOBODY, "vd_2")
        listed = verdicts.browse(NOBODY, Search(id="vd_2"))
    assert ([each.reviews for each in listed], reviews) == ([1], [review])


async def test_latest_review_counts(archive):
    async with archive(record(1)) as verdicts:
        for decision, scores in (("overrule", (1.0, 9.0)), ("agree", None)):
            await add(verdicts, NOBODY, "vd_1", ReviewContent("ann", decision, scores=scores))
        stats = verdicts.agreement(NOBODY, None)
        ((review, verdict),) = verdicts.last_reviews(NOBODY)
        item = verdicts.preference(review, verdict)
    assert [(each.reviews, each.agreed) for _, _, each in stats.groups] == [(1, 1)]
    assert (item["preferred"], item["meta"]["decision"]) == (0, "agree")


async def test_hashed_verdicts_have_no_text(archive):
    async with archive(record(1), store_text=False) as verdicts:
        await add(verdicts, NOBODY, "vd_1", ReviewContent("ann", "agree"))
        assert not verdicts.find(NOBODY, "vd_1")[0].has_text
        ((review, verdict),) = verdicts.last_reviews(NOBODY)
        assert verdicts.preference(review, verdict) is None
        assert verdicts.observed_principles(NOBODY, 10, None).verdicts == 0


def unsound_seen(verdicts, caller):
    return [each.unsound for each in verdicts.observed_principles(caller, 10, None).principles]


async def test_unsound_reviews_count_for_the_owner(archive):
    unsound = ReviewContent("x", "unsound_principle", principle="it answers the question")
    async with archive(record(1, caller="ann"), record(2, caller="bob")) as verdicts:
        await add(verdicts, BOB, "vd_2", unsound)
        assert [unsound_seen(verdicts, each) for each in (ANN, BOB, NOBODY)] == [[0], [1], [1]]
        await add(verdicts, Caller("eve", auditor=True), "vd_1", unsound)
        assert [unsound_seen(verdicts, each) for each in (ANN, BOB, NOBODY)] == [[1], [1], [2]]
        assert unsound_seen(verdicts, Caller("eve")) == []
    async with archive() as reopened:
        assert [unsound_seen(reopened, each) for each in (ANN, BOB, NOBODY)] == [[1], [1], [2]]


async def test_reviews_of_a_verdict_are_bounded(archive, monkeypatch):
    monkeypatch.setattr("grm_service.review.reviews.MAX_REVIEWS", 2)
    async with archive(record(1)) as verdicts:
        for _ in range(2):
            await add(verdicts, NOBODY, "vd_1", ReviewContent("ann", "agree"))
        with pytest.raises(BadTask, match="has 2 reviews"):
            await add(verdicts, NOBODY, "vd_1", ReviewContent("ann", "agree"))


@pytest.mark.parametrize("column", ["summary", "created", "body"])
async def test_changed_record_is_a_clear_error(archive, column):
    async with archive(record(1, caller="ann", worth=1.0)) as verdicts:
        with verdicts._trail.store.database.writing() as connection:
            connection.exec_driver_sql(f"UPDATE records SET {column} = '{{}}'")
        with pytest.raises(AuditBroken, match="grm audit verify"):
            verdicts.browse(ANN, Search()) and verdicts.find(ANN, "vd_1")


async def test_lists_do_not_load_bodies(archive):
    stored = [record(i, caller="ann", worth=1.0, task=long_task()) for i in range(20)]
    async with archive(*stored) as verdicts:
        for i in range(20):
            await add(verdicts, ANN, f"vd_{i}", ReviewContent("ann", "agree"))
        seqs = verdicts.last_reviews(ANN)
        reads = {
            "browse": (0.5, lambda: verdicts.browse(ANN, Search(limit=200))),
            "search": (0.5, lambda: verdicts.browse(ANN, Search(text="no such text"))),
            "queue": (0.5, lambda: verdicts.queue(ANN, Search())),
            "stats": (0.5, lambda: verdicts.agreement(ANN, None)),
            "export": (5, lambda: [verdicts.preference(*each) and None for each in seqs]),
            "observed": (10, lambda: verdicts.observed_principles(ANN, 5000, None)),
        }
        for name, (most_mib, read) in reads.items():
            assert peak_mib(read) < most_mib, name


def long_task():
    """A task of one MiB; twenty records of it are more than any bound of the test."""
    return replace(record(1).task, responses=("x" * 2**19, "y" * 2**19))


def peak_mib(work):
    """Return the most memory, in MiB, that Python allocates during `work`."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
