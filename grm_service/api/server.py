"""Run the application under uvicorn."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from grm_service import tracing
from grm_service.api.access import allowed_hosts, is_loopback
from grm_service.api.app import create_app
from grm_service.api.dialects.registry import DialectRegistry
from grm_service.api.http_protocol import TimeoutProtocol
from grm_service.api.probes import probe_schedule
from grm_service.errors import GRMError, ModelNotLoaded
from grm_service.improving.policy import Policy
from grm_service.serving.keys import load
from grm_service.serving.service import Service
from grm_service.settings import Settings

# RL clients keep idle connections for 15 s and more; uvicorn's default of 5 s would cut them.
_KEEP_ALIVE_S = 75
_BACKLOG = 4096
# A burst of requests allocates many objects that stay alive: with Python's defaults (700, 10, 10) the garbage
# collector took a quarter of the time.
_COLLECT_AFTER = (50_000, 20, 50)


class UnsafeAddress(GRMError):
    """The server would accept remote requests without API keys."""

    code = "unsafe_address"


class AddressUnavailable(GRMError):
    """The server cannot listen on its address."""

    code = "address_unavailable"


class _Server(uvicorn.Server):
    """A uvicorn server that knows when its socket is bound, and drains the service when it is stopped."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self.bound = asyncio.Event()
        self.failed: Exception | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.bound.set()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.drain()
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals without raising them again: a server that stops on request exits with 0."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    def address(self) -> str:
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    settings: Settings,
    service: Service,
    announce: Callable[[str], None],
    policy: Policy | None = None,
    on_loading: Callable[[Service], None] = lambda service: None,
) -> None:
    """Serve until stopped; `announce` is called with the address once the model answers.

    `on_loading` is called when the address is bound and the model is about to be loaded.

    Raises UnsafeAddress, AddressUnavailable, BadSetting, ModelNotLoaded, MissingExtra, and CatalogError for
    a bad keys file.
    """
    keys = None if settings.keys_file is None else load(settings.keys_file)
    if keys is None and not is_loopback(settings.host) and not settings.allow_anyone:
        raise UnsafeAddress(
            f"{settings.host} is reachable from other machines, without authentication: create a key with "
            "`grm keys add NAME` and set GRM_KEYS_FILE, or set GRM_ALLOW_ANYONE=true"
        )

    async def started(failed: Exception | None) -> None:
        await server.bound.wait()
        server.failed = failed
        if failed is not None:
            server.should_exit = True
        else:
            gc.collect()
            gc.freeze()  # everything loaded by now stays alive
            announce(server.address())

    app = create_app(
        service,
        settings.max_body_bytes,
        settings.max_batch_bytes,
        keys,
        allowed_hosts(keys, settings.allowed_hosts),
        started,
        probe_schedule(settings),
        DialectRegistry.from_settings(settings),
        policy,
    )
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=TimeoutProtocol,
        timeout_keep_alive=_KEEP_ALIVE_S,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=settings.drain_s,
        log_config=None,
        access_log=False,
    )
    server = _Server(config, service)
    gc.set_threshold(*_COLLECT_AFTER)
    # Before the model is loaded, which may take minutes.
    with _listening(settings.host, settings.port) as bound, tracing.exporting():
        on_loading(service)
        server.run([bound])
    if isinstance(server.failed, GRMError):
        raise server.failed
    if server.failed is not None:
        raise ModelNotLoaded(f"the service could not start: {server.failed}") from server.failed


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the address. Raises AddressUnavailable."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as failed:
        # create_server appends the address to the reason.
        why = (failed.strerror or str(failed)).partition(" (while")[0].lower()
        raise AddressUnavailable(
            f"cannot listen on {host}, port {port}: {why}; choose another address with --host and --port"
        ) from None
