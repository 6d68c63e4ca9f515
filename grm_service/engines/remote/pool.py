"""Several servers of one model as one engine."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, fields

from grm_service.engines.base import Abilities, Engine
from grm_service.engines.remote.upstream import Stumbled
from grm_service.errors import EngineUnreachable, GRMError, ModelNotLoaded
from grm_service.types import Completion, Params, Prompt

logger = logging.getLogger(__name__)
_KEPT_GROUPS = 8192
_LONGEST_PAUSE_S = 60.0


@dataclass(slots=True, eq=False)
class _PooledServer:
    url: str
    engine: Engine
    up: bool = False
    in_flight: int = 0
    asked: int = 0


class PoolEngine:
    """Engines by address. A group of prompts goes where the fewest requests are in flight, and stays there:
    its prefix is in that server's cache.

    A server that cannot be reached, or fails, is taken out, its requests go on to another, and it is probed
    after `pause_s`, twice that, and so on, until it is back.
    """

    name = "openai"
    model = ""
    abilities = Abilities()
    control_tokens: tuple[str, ...] = ()

    def __init__(self, engines: Mapping[str, Engine], pause_s: float = 1.0) -> None:
        self._servers = [_PooledServer(url, engine) for url, engine in engines.items()]
        self._pause_s = pause_s
        self._homes: OrderedDict[str, _PooledServer] = OrderedDict()
        self._probes: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        """Whether any server is up."""
        return any(server.up for server in self._servers)

    async def start(self) -> None:
        """Starts every server; those that cannot be reached join later.

        Raises EngineUnreachable where none is up, ModelNotLoaded where they serve different models.
        """
        started = await asyncio.gather(
            *(server.engine.start() for server in self._servers), return_exceptions=True
        )
        for failed in started:
            if failed is not None and not isinstance(failed, EngineUnreachable):
                raise failed
        up = [server for server, failed in zip(self._servers, started, strict=True) if failed is None]
        if not up:
            raise self._none_up()
        if len({server.engine.model for server in up}) > 1:
            served = ", ".join(f"{server.engine.model} ({server.url})" for server in up)
            raise ModelNotLoaded(f"the servers must serve one model under one name, but they serve {served}")
        self.model = up[0].engine.model
        self.abilities = _common([server.engine.abilities for server in up])
        for server, failed in zip(self._servers, started, strict=True):
            server.up = True
            if isinstance(failed, EngineUnreachable):
                self._take_out(server, failed)

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """One completion; no server is asked twice. Raises EngineUnreachable, and what the engines raise."""
        asked: list[_PooledServer] = []
        failure = self._none_up()
        while (server := self._server(prompt.group, asked)) is not None:
            asked.append(server)
            server.asked += 1
            server.in_flight += 1
            try:
                return await server.engine.complete(prompt, params)
            except EngineUnreachable as failed:
                if _busy(failed):
                    failure = failed
                else:
                    self._take_out(server, failed)
            finally:
                server.in_flight -= 1
        raise failure

    async def close(self) -> None:
        """Stops probing and closes every engine."""
        for probe in self._probes:
            probe.cancel()
        await asyncio.gather(*self._probes, return_exceptions=True)
        await asyncio.gather(*(server.engine.close() for server in self._servers))

    def _server(self, group: str, asked: list[_PooledServer]) -> _PooledServer | None:
        home = self._homes.get(group)
        if home is None or not home.up or home in asked:
            up = [server for server in self._servers if server.up and server not in asked]
            home = min(up, key=lambda server: (server.in_flight, server.asked), default=None)
        if home is not None and group:
            self._settle(group, home)
        return home

    def _settle(self, group: str, home: _PooledServer) -> None:
        self._homes[group] = home
        self._homes.move_to_end(group)
        if len(self._homes) > _KEPT_GROUPS:
            self._homes.popitem(last=False)

    def _none_up(self) -> EngineUnreachable:
        return EngineUnreachable(
            f"none of {', '.join(server.url for server in self._servers)} can be reached"
        )

    def _take_out(self, server: _PooledServer, failed: EngineUnreachable) -> None:
        if not server.up:
            return
        server.up = False
        logger.warning("%s is out: %s", server.url, failed)
        probe = asyncio.create_task(self._bring_back(server))
        self._probes.add(probe)
        probe.add_done_callback(self._probes.discard)

    async def _bring_back(self, server: _PooledServer) -> None:
        pause_s = self._pause_s
        while not server.up:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            try:
                await server.engine.start()
                self._check(server.engine)
                server.up = True
                logger.warning("%s is back", server.url)
            except GRMError as failed:
                logger.info("%s stays out: %s", server.url, failed)

    def _check(self, engine: Engine) -> None:
        """What this pool has told its callers must hold for a server that joins or comes back."""
        if engine.model != self.model:
            raise ModelNotLoaded(f"it serves {engine.model}, the others {self.model}")
        if missing := set(engine.abilities.lacking()) - set(self.abilities.lacking()):
            raise ModelNotLoaded(f"it lacks what the others can do: {', '.join(sorted(missing))}")


def _busy(failed: EngineUnreachable) -> bool:
    """Whether the server is there and asks for patience."""
    return isinstance(failed, Stumbled) and failed.status == 429


def _common(all_of_them: list[Abilities]) -> Abilities:
    return Abilities(
        **{each.name: all(getattr(one, each.name) for one in all_of_them) for each in fields(Abilities)}
    )
