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
    """As a worker finds it: GRM_URL in the environment, nothing asked yet."""
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
    """Runs a coroutine in a loop of its own, as trainers do each step."""
    return asyncio.run
