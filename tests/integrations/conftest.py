import asyncio

import pytest

from grm_service.integrations import common
from tests.faults.test_faults import served


@pytest.fixture(scope="module")
def url():
    """A real server with the scripted engine."""
    with served() as (address, _):
        yield address


@pytest.fixture
def configured(url, monkeypatch):
    """Set GRM_URL as on a worker, with no client created yet."""
    monkeypatch.setenv("GRM_URL", url)
    common.service.cache_clear()
    common.blocking_service.cache_clear()
    yield url
    if common.blocking_service.cache_info().currsize:
        common.blocking_service().close()
    common.service.cache_clear()
    common.blocking_service.cache_clear()


@pytest.fixture
def run():
    """Run a coroutine in a new event loop, as trainers do in each step."""
    return asyncio.run
