"""Several servers of the same model as one engine."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from grm_service.engines.base import Abilities, Engine, ThinkingBehavior
from grm_service.engines.remote.http_retry import TransientError
from grm_service.errors import EngineError, EngineUnreachable, GRMError, ModelNotLoaded, UpstreamDenied
from grm_service.types import Completion, Params, Prompt

logger = logging.getLogger(__name__)
_MAX_GROUPS = 8192
_MAX_RECONNECT_PAUSE_S = 60.0


@dataclass(slots=True, eq=False)
class _PooledServer:
    url: str
    engine: Engine
    up: bool = False
    in_flight: int = 0
    requests: int = 0


class PoolEngine:
    """A pool of engines by address.

    A new group of prompts goes to the server with the fewest requests in flight, and stays there, because its
    prefix is in that server's cache.

    A server that cannot be reached, fails or refuses every request is removed from the pool, and its requests
    go to another one. It
    is started again after `pause_s`, then twice that, and so on up to 60 s, until it is back.
    """

    name = "openai"
    model = ""
    abilities = Abilities()
    thinking = ThinkingBehavior()
    control_tokens: tuple[str, ...] = ()

    def __init__(self, engines: Mapping[str, Engine], pause_s: float = 1.0) -> None:
        self._servers = [_PooledServer(url, engine) for url, engine in engines.items()]
        self._pause_s = pause_s
        self._group_servers: OrderedDict[str, _PooledServer] = OrderedDict()
        self._reconnecting: set[asyncio.Task[None]] = set()

    @property
    def dropped_fields(self) -> tuple[str, ...]:
        """The sampling parameters that any of the servers refuses."""
        return tuple(sorted({name for server in self._servers for name in server.engine.dropped_fields}))

    @property
    def ready(self) -> bool:
        """True if at least one server is up."""
        return any(server.up for server in self._servers)

    async def start(self) -> None:
        """Start all servers; those that cannot be reached, or reply with something odd, join later.

        Raises EngineError if none is up, ModelNotLoaded if they serve different models.
        """
        errors = await asyncio.gather(
            *(server.engine.start() for server in self._servers), return_exceptions=True
        )
        for error in errors:
            if error is not None and not (isinstance(error, EngineError) and error.retryable):
                raise error
        up = [server for server, error in zip(self._servers, errors, strict=True) if error is None]
        if not up:
            odd = [
                error for error in errors if error is not None and not isinstance(error, EngineUnreachable)
            ]
            raise odd[0] if odd else self._none_up()
        if len({server.engine.model for server in up}) > 1:
            models = ", ".join(f"{server.engine.model} ({server.url})" for server in up)
            raise ModelNotLoaded(f"the servers must serve one model under one name, but they serve {models}")
        if len({server.engine.thinking.opened for server in up}) > 1:
            opened = ", ".join(server.url for server in up if server.engine.thinking.opened)
            raise ModelNotLoaded(
                f"the servers must think alike, but only the chat template of {opened} ends in the start of "
                "the thinking: run all with the same chat template and reasoning parser"
            )
        self.model = up[0].engine.model
        self.thinking = _common_thinking([server.engine.thinking for server in up])
        self.abilities = _common_abilities([server.engine.abilities for server in up])
        for server, error in zip(self._servers, errors, strict=True):
            server.up = True
            if isinstance(error, EngineError):
                self._remove(server, error)

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """Generate one completion; each server is tried once.

        Raises EngineUnreachable if none of them answers, UpstreamDenied if they refuse every request, and
        the engines' other errors.
        """
        tried: list[_PooledServer] = []
        failure: EngineError = self._none_up()
        while (server := self._choose(prompt.group, tried)) is not None:
            tried.append(server)
            server.requests += 1
            server.in_flight += 1
            try:
                return await server.engine.complete(prompt, params)
            except (EngineUnreachable, UpstreamDenied) as error:
                if _is_busy(error) or isinstance(error, UpstreamDenied):
                    failure = error
                if not _is_busy(error):
                    self._remove(server, error)
            finally:
                server.in_flight -= 1
        raise failure

    async def close(self) -> None:
        """Stop reconnecting and close all engines."""
        for task in self._reconnecting:
            task.cancel()
        await asyncio.gather(*self._reconnecting, return_exceptions=True)
        await asyncio.gather(*(server.engine.close() for server in self._servers))

    def _choose(self, group: str, tried: Sequence[_PooledServer]) -> _PooledServer | None:
        server = self._group_servers.get(group)
        if server is None or not server.up or server in tried:
            up = [each for each in self._servers if each.up and each not in tried]
            server = min(up, key=lambda each: (each.in_flight, each.requests), default=None)
        if server is not None and group:
            self._assign(group, server)
        return server

    def _assign(self, group: str, server: _PooledServer) -> None:
        self._group_servers[group] = server
        self._group_servers.move_to_end(group)
        if len(self._group_servers) > _MAX_GROUPS:
            self._group_servers.popitem(last=False)

    def _none_up(self) -> EngineUnreachable:
        return EngineUnreachable(
            f"none of {', '.join(server.url for server in self._servers)} can be reached"
        )

    def _remove(self, server: _PooledServer, error: EngineError) -> None:
        if not server.up:
            return
        server.up = False
        logger.warning("%s is out of the pool: %s", server.url, error.message)
        task = asyncio.create_task(self._reconnect(server))
        self._reconnecting.add(task)
        task.add_done_callback(self._reconnecting.discard)

    async def _reconnect(self, server: _PooledServer) -> None:
        pause_s = self._pause_s
        while not server.up:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _MAX_RECONNECT_PAUSE_S)
            try:
                await server.engine.start()
                self._check_compatible(server.engine)
                server.up = True
                logger.warning("%s is back in the pool", server.url)
            except Exception as error:  # whatever a server replies, it is tried again
                why = error.message if isinstance(error, GRMError) else type(error).__name__
                logger.info("%s is still out of the pool: %s", server.url, why)

    def _check_compatible(self, engine: Engine) -> None:
        """Raise ModelNotLoaded if a server's model or abilities differ from what the pool has announced."""
        if engine.model != self.model:
            raise ModelNotLoaded(f"it serves {engine.model}, the others {self.model}")
        if missing := set(engine.abilities.lacking()) - set(self.abilities.lacking()):
            raise ModelNotLoaded(f"it lacks features of the other servers: {', '.join(sorted(missing))}")
        if engine.thinking.opened != self.thinking.opened:
            raise ModelNotLoaded("its chat template begins the thinking otherwise than the other servers'")


def _is_busy(error: EngineError) -> bool:
    """Return True if the server is up but answers 429."""
    return isinstance(error, TransientError) and error.status == 429


def _common_thinking(behaviors: Sequence[ThinkingBehavior]) -> ThinkingBehavior:
    """Return the behavior to expect of any server; all have the same `opened`."""
    thinking = [each for each in behaviors if each.thinks is not None]
    if not thinking:
        return behaviors[0]
    inline = any(each.thinks == "inline" for each in thinking)
    return ThinkingBehavior(
        "inline" if inline else "field", thinking[0].opened, all(each.can_disable for each in thinking)
    )


def _common_abilities(abilities: Sequence[Abilities]) -> Abilities:
    return Abilities(
        **{each.name: all(getattr(one, each.name) for one in abilities) for each in fields(Abilities)}
    )
