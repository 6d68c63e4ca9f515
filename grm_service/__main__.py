"""`python -m grm_service` is `grm`."""

from grm_service.cli import app

app()
