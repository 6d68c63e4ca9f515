import asyncio
import contextlib

import httpx
import pytest

from grm_service.integrations import common
from tests.faults.test_faults import metric, served
from tests.waiting import until

_TOLD = {}
_CASES = ("a group", "a full line", "nobody can read it")


@pytest.fixture
def told():
    """Notes what a framework's client did: `told(framework, route, case, what)`, printed at the end."""

    def tell(framework, route, case, what):
        assert case in _CASES
        _TOLD.setdefault((framework, route), {})[case] = what

    return tell


def pytest_terminal_summary(terminalreporter):
    if _TOLD:
        rows = [("framework", "route", *_CASES)]
        rows += [(*names, *(cases.get(case, "") for case in _CASES)) for names, cases in _TOLD.items()]
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
    """The service's own client side: what its native route says, what it counts."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        yield Native(client)


class Native:
    def __init__(self, client):
        self.client = client

    async def rewards(self, query, responses, **more):
        body = {"query": query, "responses": responses, "k": 4} | more
        return (await self.client.post("/v1/rewards", json=body)).json()["rewards"]

    async def answered(self, route, status):
        """Requests so far."""
        return await metric(self.client, f'grm_requests_total{{route="{route}",status="{status}"}}')

    async def refused(self):
        """Judgements so far for which the line was full, whatever their askers were told."""
        return await metric(self.client, 'grm_failures_total{code="overloaded"}')

    async def last_responses(self):
        """How many were judged together last."""
        return (await self.client.get("/v1/verdicts")).json()["verdicts"][0]["responses"]


@pytest.fixture
async def crowded(monkeypatch):
    """A service of its own whose engine is busy for a second and whose line is full."""
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

            async def watch():
                while not await metric(client, "grm_waiting_requests"):
                    await asyncio.sleep(0.01)
                full.set()

            watching = asyncio.create_task(watch())
            await until(full.is_set)
            await watching
            yield Native(client)
            for answer in await asyncio.gather(*busy):
                assert answer.status_code == 200


@pytest.fixture
def configured(url, monkeypatch):
    """The integrations' environment, nothing asked yet."""
    monkeypatch.setenv("GRM_URL", url)
    with contextlib.ExitStack() as undo:
        for service in (common.service, common.blocking_service):
            service.cache_clear()
            undo.callback(service.cache_clear)
        yield url
        if common.blocking_service.cache_info().currsize:
            common.blocking_service().close()
