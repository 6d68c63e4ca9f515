import pytest

from tests.faults.test_faults import served


@pytest.fixture(scope="session")
def service():
    """The URL of a real service whose engine is controlled by the query (tests/faults/server.py)."""
    with served() as (url, _):
        yield url
