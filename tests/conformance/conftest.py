import asyncio
import contextlib

import httpx
import pytest

from grm_service.integrations import common
from tests.faults.test_faults import metric, served
from tests.waiting import until

_REPORTED = {}
_CASES = ("a group", "full queue", "unreadable")


@pytest.fixture
def report():
    """Record the behaviour of a client, `report(framework, route, case, behaviour)`; printed at the end."""

    def add(framework, route, case, behaviour):
        assert case in _CASES
        _REPORTED.setdefault((framework, route), {})[case] = behaviour

    return add


def pytest_terminal_summary(terminalreporter):
    if _REPORTED:
        rows = [("framework", "route", *_CASES)]
        rows += [(*names, *(cases.get(case, "") for case in _CASES)) for names, cases in _REPORTED.items()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        terminalreporter.section("conformance")
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            terminalreporter.write_line("  ".join(cells).rstrip())


@pytest.fixture(scope="module")
def url():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRM_GROUP_WINDOW_S", "1")
        with served() as (address, _):
            yield address


@pytest.fixture
async def native(url):
    """The service's native route and metrics."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        yield Native(client)


class Native:
    def __init__(self, client):
        self.client = client

    async def rewards(self, query, responses, **fields):
        body = {"query": query, "responses": responses, "k": 4} | fields
        return (await self.client.post("/v1/rewards", json=body)).json()["rewards"]

    async def replies(self, route, status):
        """Return the number of replies so far."""
        return await metric(self.client, f'grm_requests_total{{route="{route}",status="{status}"}}')

    async def refused(self):
        """Return the number of judgements so far that the full queue refused, retried or not."""
        return await metric(self.client, 'grm_failures_total{code="overloaded"}')

    async def last_responses(self):
        """Return the size of the last group."""
        return (await self.client.get("/v1/verdicts")).json()["verdicts"][0]["responses"]


@pytest.fixture
async def crowded(monkeypatch):
    """A separate service whose engine is busy for a second and whose queue is full."""
    monkeypatch.setenv("GRM_GROUP_WINDOW_S", "0")
    with served("--delay", "1", "--waiting", "1") as (url, _):
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            busy = [
                asyncio.create_task(
                    client.post("/v1/rewards", json={"query": f"{i}", "responses": ["a"], "k": 64})
                )
                for i in range(5)
            ]
            full = asyncio.Event()

            async def wait():
                while not await metric(client, "grm_waiting_requests"):
                    await asyncio.sleep(0.01)
                full.set()

            waiting = asyncio.create_task(wait())
            await until(full.is_set)
            await waiting
            yield Native(client)
            for answer in await asyncio.gather(*busy):
                assert answer.status_code == 200


@pytest.fixture
def configured(url, monkeypatch):
    """Set GRM_URL for the integrations, with no client created yet."""
    monkeypatch.setenv("GRM_URL", url)
    with contextlib.ExitStack() as undo:
        for service in (common.service, common.blocking_service):
            service.cache_clear()
            undo.callback(service.cache_clear)
        yield url
        if common.blocking_service.cache_info().currsize:
            common.blocking_service().close()
