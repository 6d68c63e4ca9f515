"""Print the OpenAPI document: `python -m grm_service.api.openapi`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grm_service.api.app import create_app
from grm_service.audit.store import Store
from grm_service.audit.trail import Trail
from grm_service.engines.scripted import ScriptedEngine
from grm_service.profiles.catalog import load_catalog
from grm_service.serving.service import Service


def document() -> str:
    """Return the document as in docs/openapi.json; it depends on neither engine nor settings."""
    catalog = load_catalog()
    trail = Trail(Store("sqlite:///unused", Path("unused")))
    service = Service(catalog, next(iter(catalog.profiles.values())), ScriptedEngine(), "scripted", trail)
    return json.dumps(create_app(service, max_body_bytes=1, max_batch_bytes=1).openapi(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
