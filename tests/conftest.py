import os
import tempfile

import hypothesis
import pytest

from grm_service.engines.files.source import ModelSource
from grm_service.profiles.catalog import load_catalog
from grm_service.settings import Settings

# No test may ask a model hub: what it needs, it makes.
os.environ["HF_HUB_OFFLINE"] = "1"
for name in [name for name in os.environ if name.startswith("GRM_")]:
    del os.environ[name]
# The tiny judge, which takes a minute of tests and not an hour.
os.environ["GRM_PROFILE"] = "smollm2-judge"
# Each worker of xdist has one core: threads of several would wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# A slow or busy machine is no failure.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")
_TRAILS = tempfile.TemporaryDirectory(prefix="grm-audit-")
os.environ["GRM_AUDIT_URL"] = f"sqlite:///{_TRAILS.name}/audit.db"
os.environ["GRM_AUDIT_KEY_FILE"] = f"{_TRAILS.name}/audit.key"


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
def smollm():
    """The tiny judge's base: fetched into the cache on a new machine, as `make serve` does."""
    return ModelSource.from_profile(load_catalog().profile("smollm2-135m"), Settings().cache_dir)
