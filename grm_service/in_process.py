"""A judge in this process: the client's interface without a server.

    from grm_service import Judge

    with Judge.load(profile="qwen-judge") as judge:
        verdict = judge.rewards("What is 3 + 4?", ["7", "8"], k=8)

Requests run through the same application as over HTTP, without a socket: the options, results, errors, the
cache and the audit trail are those of the service.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from grm_service.api.app import create_app
from grm_service.client import AsyncClient, Client
from grm_service.factory import open_service
from grm_service.serving.service import Service
from grm_service.settings import EngineName, Settings, load_settings

_ADDRESS = "http://localhost"


class AsyncJudge(AsyncClient):
    """A judge in this process for asynchronous code; see Judge. It belongs to one event loop.

    The model loads on entering the context, or with the first request.
    """

    _reload: partial[AsyncJudge]

    def __init__(self, service: Service, settings: Settings) -> None:
        super().__init__(_ADDRESS)
        app = create_app(service, settings.max_body_bytes, settings.max_batch_bytes, hosts=())
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        headers = {"Content-Type": "application/json"}
        self._http = httpx.AsyncClient(transport=transport, base_url=_ADDRESS, headers=headers, timeout=None)
        self._service, self._started, self._starting = service, False, asyncio.Lock()

    @classmethod
    def load(
        cls, profile: str | Path | None = None, engine: EngineName | None = None, **settings: Any
    ) -> AsyncJudge:
        """Return the judge of a profile; see Judge.load."""
        options = load_settings(profile=profile, engine=engine, **settings)
        judge = cls(open_service(options), options)
        judge._reload = partial(cls.load, profile, engine, **settings)
        return judge

    def __reduce__(self) -> tuple[object, ...]:
        return self._reload, ()  # another process loads a model of its own

    async def __aenter__(self) -> AsyncJudge:
        await self.start()
        return self

    async def start(self) -> None:
        """Load the model. Raises ModelNotLoaded, MissingExtra, AuditUnavailable, EngineUnreachable."""
        async with self._starting:
            if not self._started:
                await self._service.start()
                self._started = True

    async def close(self) -> None:
        """Unload the model and close the audit trail."""
        await self._http.aclose()
        await self._service.close()

    async def _send(self, path: str, content: bytes) -> httpx.Response:
        await self.start()
        return await self._http.post(path, content=content)


class Judge(Client):
    """A judge in this process, with the methods and results of Client. Threads may share one."""

    _reload: partial[Judge]

    def __init__(self, judge: AsyncJudge) -> None:
        super().__init__(_ADDRESS)
        self._client: AsyncJudge = judge

    @classmethod
    def load(
        cls, profile: str | Path | None = None, engine: EngineName | None = None, **settings: Any
    ) -> Judge:
        """Return a judge whose model is loaded.

        `profile` is a name or the path of a YAML file, `engine` as for `grm serve` ("auto" by default);
        `settings` are those of docs/operation.md without GRM_, such as `audit_url`. What is not given comes
        from the environment. Raises BadSetting, CatalogError, UnknownName, ModelNotLoaded, MissingExtra.
        """
        judge = cls(AsyncJudge.load(profile, engine, **settings))
        judge._reload = partial(cls.load, profile, engine, **settings)
        try:
            judge._wait(judge._client.start())
        except BaseException:
            judge.close()
            raise
        return judge

    def __reduce__(self) -> tuple[object, ...]:
        return self._reload, ()

    def __enter__(self) -> Judge:
        return self

    def close(self) -> None:
        """Unload the model, close the audit trail and end the judge's thread."""
        self._wait(self._client.close())
        super().close()
