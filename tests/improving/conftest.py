import contextlib

import pytest

from grm_service.audit.store import Store
from grm_service.audit.trail import Trail
from grm_service.improving.policy import Policy
from grm_service.profiles.catalog import load_catalog
from grm_service.serving.service import Service
from tests.improving.world import PROFILE


@pytest.fixture
def open_world(tmp_path):
    """Start a service on an engine, with a policy; `writer` is a separate engine for the policy."""

    @contextlib.asynccontextmanager
    async def _open(engine, writer=None):
        trail = Trail(Store(f"sqlite:///{tmp_path}/audit.db", tmp_path / "audit.key"))
        service = Service(load_catalog(), PROFILE, engine, "a test", trail)
        await service.start()
        policy = Policy(service, writer)
        try:
            yield service, policy
        finally:
            await policy.close()
            await service.close()

    return _open
