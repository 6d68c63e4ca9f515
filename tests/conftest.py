import os

import pytest

# No test may ask a model hub: what it needs, it makes.
os.environ["HF_HUB_OFFLINE"] = "1"
for name in [name for name in os.environ if name.startswith("GRM_")]:
    del os.environ[name]


@pytest.fixture
def anyio_backend():
    return "asyncio"
