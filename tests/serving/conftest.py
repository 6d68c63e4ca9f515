import contextlib

import pytest

from grm_service.factory import open_trail
from grm_service.profiles.catalog import load_catalog
from grm_service.serving.service import Limits, Service
from grm_service.settings import Settings


@pytest.fixture
def open_service(tmp_path):
    """Return a function that starts a service on an engine; keyword arguments are limits."""
    catalog = load_catalog()

    @contextlib.asynccontextmanager
    async def _open(engine, meta_rm=None, **limits):
        settings = Settings(audit_url=f"sqlite:///{tmp_path}/audit.db", audit_key_file=tmp_path / "audit.key")
        profile, trail = catalog.profile("smollm2-135m"), open_trail(settings)
        service = Service(catalog, profile, engine, "a test", trail, Limits(**limits), meta_rm)
        await service.start()
        try:
            yield service
        finally:
            await service.close()

    return _open
