"""Start, readiness, draining and shutdown of a service."""

from __future__ import annotations

import asyncio
import logging

from grm_service.audit.trail import Trail
from grm_service.engines.base import Engine, MetaRM
from grm_service.errors import Draining, EngineNotReady, EngineUnreachable

logger = logging.getLogger(__name__)
_RETRY_S = 1.0


class Lifecycle:
    """An engine, a meta RM if there is one, and an audit trail, started and stopped together."""

    def __init__(self, engine: Engine, meta_rm: MetaRM | None, trail: Trail) -> None:
        self.engine, self.meta_rm, self.trail = engine, meta_rm, trail
        self.draining = False
        self._started = asyncio.Event()
        self._not_started = "the model is still loading; see /readyz"

    @property
    def ready(self) -> bool:
        """True if the model has produced a token and a request would be served now."""
        models = self.engine.ready and (self.meta_rm is None or self.meta_rm.ready)
        return self._started.is_set() and models and self.trail.writable and not self.draining

    def require_ready(self) -> None:
        """Raise EngineNotReady, with the reason, if a request would not be served now."""
        if self.draining:
            raise Draining("this server is shutting down: send the request to another one")
        if not self._started.is_set():
            raise EngineNotReady(self._not_started)
        if not self.engine.ready:
            raise EngineNotReady(f"the {self.engine.name} engine does not answer; it is being restarted")
        if self.meta_rm is not None and not self.meta_rm.ready:
            raise EngineNotReady("the meta RM does not answer; it is being restarted")
        self.trail.require_writable()

    async def start(self, patient: bool = False) -> None:
        """Open the trail, load engine and meta RM; if `patient`, wait for servers that are not reachable yet.

        Raises AuditUnavailable, ModelNotLoaded, EngineUnreachable.
        """
        await asyncio.to_thread(self.trail.open)
        await self.load(patient)

    async def load(self, patient: bool = False) -> None:
        """Load engine and meta RM, without the trail. Raises ModelNotLoaded, EngineUnreachable."""
        await self._reach(self.engine, "engine", patient)
        if self.meta_rm is not None:
            await self._reach(self.meta_rm, "meta RM", patient)
        self._started.set()

    async def _reach(self, model: Engine | MetaRM, what: str, patient: bool) -> None:
        while True:
            try:
                return await model.start()
            except EngineUnreachable as away:
                if not patient:
                    raise
                logger.warning("%s; retrying until it answers", away)
                self._not_started = (
                    f"the server of the {what} is not reachable yet (see the log); it is retried"
                )
            await asyncio.sleep(_RETRY_S)

    def drain(self) -> None:
        """Accept no new requests; those under way finish."""
        self.draining = True

    async def close(self) -> None:
        """Stop engine and meta RM and close the trail."""
        self._started.clear()
        await self.engine.close()
        if self.meta_rm is not None:
            await self.meta_rm.close()
        await asyncio.to_thread(self.trail.close)
