"""Runs the application under uvicorn."""

from __future__ import annotations

from collections.abc import Callable

import uvicorn

from grm_service.api.app import create_app
from grm_service.errors import GRMError, ModelNotLoaded
from grm_service.service import Service
from grm_service.settings import Settings

# RL clients keep idle connections for 15 s and more; uvicorn's default of 5 s would cut them.
_KEEP_ALIVE_S = 75


class _Server(uvicorn.Server):
    failed: BaseException | None = None

    def address(self) -> str:
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(settings: Settings, service: Service, announce: Callable[[str], None]) -> None:
    """Serves until stopped; `announce` gets the address once the model answers. Raises ModelNotLoaded."""

    def started(failed: BaseException | None) -> None:
        server.failed = failed
        if failed is not None:
            server.should_exit = True
        else:
            announce(server.address())

    app = create_app(service, settings.max_body_bytes, started)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        timeout_keep_alive=_KEEP_ALIVE_S,
        backlog=4096,
        log_config=None,
        access_log=False,
    )
    server = _Server(config)
    server.run()
    if isinstance(server.failed, GRMError):
        raise server.failed
    if server.failed is not None:
        raise ModelNotLoaded(f"the service could not start: {server.failed}") from server.failed
