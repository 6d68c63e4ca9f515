"""The archive on a trail, without a server."""

import asyncio
import contextlib

import pytest

from grm_service.audit.queries import Search
from grm_service.audit.store import Store
from grm_service.audit.trail import Trail
from grm_service.callers import NOBODY, Caller
from grm_service.errors import BadTask, UnknownVerdict
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
            await verdicts.add_review(BOB, "vd_1", ReviewContent("bob", "agree"))


async def test_review_removes_from_queue(archive):
    async with archive(record(1, worth=1.0), record(2, worth=2.0), record(3)) as verdicts:
        assert [each.id for each in verdicts.queue(NOBODY, Search())] == ["vd_2", "vd_1"]
        review = await verdicts.add_review(NOBODY, "vd_2", ReviewContent("ann", "agree"))
        assert [each.id for each in verdicts.queue(NOBODY, Search())] == ["vd_1"]
        _, reviews = verdicts.find(NOBODY, "vd_2")
        listed = verdicts.browse(NOBODY, Search(id="vd_2"))
    assert ([each.reviews for each in listed], reviews) == ([1], [review])


async def test_latest_review_counts(archive):
    async with archive(record(1)) as verdicts:
        for decision, scores in (("overrule", (1.0, 9.0)), ("agree", None)):
            await verdicts.add_review(NOBODY, "vd_1", ReviewContent("ann", decision, scores=scores))
        stats = verdicts.agreement(NOBODY, None)
        ((review, verdict),) = verdicts.last_reviews(NOBODY)
        item = verdicts.preference(review, verdict)
    assert [(each.reviews, each.agreed) for _, _, each in stats.groups] == [(1, 1)]
    assert (item["preferred"], item["meta"]["decision"]) == (0, "agree")


async def test_hashed_verdicts_have_no_text(archive):
    async with archive(record(1), store_text=False) as verdicts:
        await verdicts.add_review(NOBODY, "vd_1", ReviewContent("ann", "agree"))
        assert not verdicts.find(NOBODY, "vd_1")[0].has_text
        ((review, verdict),) = verdicts.last_reviews(NOBODY)
        assert verdicts.preference(review, verdict) is None
        assert verdicts.observed_principles(NOBODY, 10, None).verdicts == 0


async def test_unsound_reviews_reach_observations(archive):
    async with archive(record(1)) as verdicts:
        content = ReviewContent("ann", "unsound_principle", principle="it answers the question")
        await verdicts.add_review(NOBODY, "vd_1", content)
        (observed,) = verdicts.observed_principles(NOBODY, 10, None).principles
    assert (observed.text, observed.unsound) == ("It answers the question.", 1)
