"""`python -m grm_service.api.openapi` prints the OpenAPI document of the service."""

from __future__ import annotations

import json
import sys

from grm_service.api.app import create_app
from grm_service.assembly import open_service
from grm_service.settings import Settings


def document() -> str:
    """The document as docs/openapi.json keeps it; it does not depend on the engine or on settings."""
    settings = Settings(engine="scripted")
    return json.dumps(create_app(open_service(settings), settings.max_body_bytes).openapi(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
