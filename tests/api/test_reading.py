"""Reads of the trail beside long ones: searches that would not end, of clients that stay or leave."""

import asyncio
import contextlib
import hashlib
import threading

import pytest

from grm_service.audit import read_limit
from grm_service.audit.queries import Queries
from grm_service.serving.keys import APIKey, Keys

pytestmark = pytest.mark.anyio
PAIR = {"query": "Name a prime.", "responses": ["11", "twelve"], "k": 1}
MOST = 45
KEYS = Keys(tuple(APIKey(name, hashlib.sha256(name.encode()).hexdigest()) for name in ("ann", "bob")))


@pytest.fixture
def searches(monkeypatch):
    """Make searches for "endless" last until they are ended; yield how many began and how many ended."""
    counts, pause, verdicts = {"begun": 0, "ended": 0}, threading.Event(), Queries.verdicts

    def search(self, search):
        if search.text == "endless":
            counts["begun"] += 1
            try:
                while not pause.wait(0.01):
                    read_limit.check()
            finally:
                counts["ended"] += 1
        return verdicts(self, search)

    monkeypatch.setattr(Queries, "verdicts", search)
    yield counts
    pause.set()


@contextlib.asynccontextmanager
async def hostile(client, count, **options):
    """Search endlessly with `count` clients that leave at the end."""
    asking = [asyncio.create_task(client.get("/v1/verdicts?search=endless", **options)) for _ in range(count)]
    await asyncio.sleep(0.1)
    yield
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_others_are_answered_beside_searches(serve, searches):
    async with serve() as client:
        async with hostile(client, MOST), asyncio.timeout(8):  # below the time limit of a search
            verdict = (await client.post("/v1/rewards", json=PAIR)).json()
            assert (await client.get(f"/v1/verdicts/{verdict['id']}")).status_code == 200
            assert len((await client.get("/v1/verdicts?limit=1")).json()["verdicts"]) == 1
            review = {"reviewer": "ann", "decision": "agree"}
            reviewed = await client.post(f"/v1/verdicts/{verdict['id']}/reviews", json=review)
            assert reviewed.status_code == 201
            assert (await client.get("/v1/usage")).status_code == 200
            assert (await client.get("/web/index.html")).status_code in (200, 404)
        await until(lambda: searches["begun"] == searches["ended"])
        assert searches["begun"] <= 4


async def test_callers_do_not_wait_for_each_other(serve, searches):
    async with serve(keys=KEYS) as client, hostile(client, MOST, headers={"X-API-Key": "ann"}):
        async with asyncio.timeout(8):
            for path in ("verdicts?search=x", "reviews/queue", "reviews/stats", "principles/observed"):
                reply = await client.get(f"/v1/{path}", headers={"X-API-Key": "bob"})
                assert reply.status_code == 200
            assert (await client.get("/v1/reviews/export", headers={"X-API-Key": "bob"})).text == ""
        assert searches["begun"] == 1


async def test_search_ends_when_its_client_leaves(serve, searches):
    async with serve() as client:
        async with hostile(client, 1):
            await until(lambda: searches["begun"] == 1)
            assert searches["ended"] == 0
        await until(lambda: searches["ended"] == 1)


PATHS = (
    "verdicts verdicts?search=x verdicts/vd_1 reviews/queue reviews/stats reviews/export principles/observed"
)


@pytest.mark.parametrize("path", PATHS.split())
async def test_long_read_is_refused(serve, monkeypatch, path):
    monkeypatch.setattr("grm_service.api.reading.MAX_READ_S", 0.0)
    async with serve() as client:
        await client.post("/v1/rewards", json=PAIR)
        problem = (await client.get(f"/v1/{path}")).json()
    assert (problem["status"], problem["code"], problem["retryable"]) == (422, "read_too_long", False)
    assert "narrow it" in problem["detail"]
