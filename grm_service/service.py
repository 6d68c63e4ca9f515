"""What stands behind every door: admit -> judge -> name the verdict."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime

from grm_service.catalog import Catalog
from grm_service.core.profile import Profile
from grm_service.engines.base import Engine
from grm_service.errors import BadTask, EngineNotReady, ProfileNotServed, SoftNotServed, TextTooLong
from grm_service.judge import Judge, OnSample
from grm_service.types import Message, Principle, PrincipleSpec, Record, Task, Usage


class Service:
    """One engine, the catalog and the profile that a request gets when it names none.

    `chosen` tells why this engine runs; `max_text_chars` bounds every single text of a request.
    """

    def __init__(
        self, catalog: Catalog, profile: Profile, engine: Engine, chosen: str, max_text_chars: int
    ) -> None:
        self.catalog = catalog
        self.profile = profile
        self.engine = engine
        self.chosen = chosen
        self._max_text_chars = max_text_chars
        self._judge = Judge(engine)
        self._started = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether the model has produced a token and the engine would serve a request now."""
        return self._started.is_set() and self.engine.ready

    def require_ready(self) -> None:
        """Raises EngineNotReady with the reason where a request would not be served now."""
        if not self._started.is_set():
            raise EngineNotReady("the model is still being loaded; ask /readyz")
        if not self.engine.ready:
            raise EngineNotReady(f"the {self.engine.name} engine does not answer; it is being brought back")

    async def start(self) -> None:
        """Loads the engine. Raises ModelNotLoaded."""
        await self.engine.start()
        self._started.set()

    async def close(self) -> None:
        self._started.clear()
        await self.engine.close()

    async def judge(self, task: Task, on_sample: OnSample | None = None) -> Record:
        """The verdict on a task, named and dated. Raises the errors of errors.py."""
        arrived = time.monotonic()
        self._bound(("responses", task.responses), ("reference", (task.reference or "",)))
        profile, standard = self._admit(task.messages, task.profile, task.principles)
        if task.score == "soft" and not {"continues", "alternatives"}.isdisjoint(
            self.engine.abilities.lacking()
        ):
            raise SoftNotServed(
                "score 'soft' needs token probabilities behind a partial answer, which this server's engine "
                "does not give: ask for 'hard' (/readyz lists what the engine lacks)"
            )
        queue_s = time.monotonic() - arrived
        verdict = await self._judge.judge(task, profile, standard, on_sample)
        return Record("vd_" + uuid.uuid4().hex, datetime.now(UTC), verdict, queue_s)

    async def principles(
        self, messages: tuple[Message, ...], profile_name: str | None, constitution: PrincipleSpec
    ) -> tuple[Profile, tuple[Principle, ...], Usage]:
        """Principles for a query without judging anything."""
        profile, standard = self._admit(messages, profile_name, replace(constitution, mode="query"))
        written, usage = await self._judge.principles(profile, messages, standard)
        return profile, written, usage

    def serves(self, profile: Profile) -> bool:
        """Whether the running model is the one that the profile is for (None: any)."""
        return profile.model is None or profile.model == self.profile.model

    def profiles(self) -> list[Profile]:
        """The catalog's profiles and the default one, which may come from a file elsewhere."""
        return list({**self.catalog.profiles, self.profile.name: self.profile}.values())

    def _admit(
        self, messages: tuple[Message, ...], name: str | None, spec: PrincipleSpec
    ) -> tuple[Profile, tuple[Principle, ...]]:
        """Everything that can be refused before any work."""
        self._bound(("messages", tuple(m.content for m in messages)))
        profile = self._profile(name)
        standard = spec.items
        if spec.set_name is not None:
            standard = self.catalog.principle_set(spec.set_name).items() + standard
        if spec.mode == "fixed" and not standard:
            raise BadTask("principles.mode 'fixed' needs principles.items or principles.set")
        self.require_ready()
        return profile, standard

    def _bound(self, *fields: tuple[str, tuple[str, ...]]) -> None:
        for field, texts in fields:
            for i, text in enumerate(texts):
                if len(text) > self._max_text_chars:
                    raise TextTooLong(f"{field}.{i}", len(text), self._max_text_chars)

    def _profile(self, name: str | None) -> Profile:
        if name is None or name == self.profile.name:
            return self.profile
        profile = self.catalog.profile(name)
        if not self.serves(profile):
            raise ProfileNotServed(
                f"profile {name!r} is for the model {profile.model}, but this server runs "
                f"{self.engine.model}: start one with --profile {name}"
            )
        return profile
