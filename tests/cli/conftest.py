import pytest

from grm_service import factory
from grm_service.cli import improve, serve
from tests.meta_rm import ScriptedMetaRM, guide


@pytest.fixture
def meta_rm(monkeypatch):
    """Give every service that a command opens a scripted meta RM."""
    graded = ScriptedMetaRM()

    def open_service(config):
        service = factory.open_service(config)
        guide(service, graded)
        return service

    for command in (improve, serve):
        monkeypatch.setattr(command, "open_service", open_service)
    return graded
