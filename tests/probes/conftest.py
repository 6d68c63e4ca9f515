import contextlib

import pytest

from grm_service.engines.scripted import ScriptedEngine
from grm_service.factory import open_catalog, open_trail
from grm_service.serving.service import Limits, Service
from grm_service.settings import Settings


@pytest.fixture
def serving():
    """A started service on a script or an engine. Use as `async with`."""

    @contextlib.asynccontextmanager
    async def _serving(script, **limits):
        settings = Settings()
        catalog = open_catalog(settings)
        engine = script if hasattr(script, "complete") else ScriptedEngine(script)
        profile = catalog.profile("smollm2-135m")
        service = Service(catalog, profile, engine, "a test", open_trail(settings), Limits(**limits))
        await service.start()
        try:
            yield service
        finally:
            await service.close()

    return _serving
