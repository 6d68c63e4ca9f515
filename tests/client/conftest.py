import pytest

from tests.faults.test_faults import served


@pytest.fixture(scope="session")
def service():
    """The address of a real service whose engine does what the query says (tests/faults/server.py)."""
    with served() as (url, _):
        yield url
