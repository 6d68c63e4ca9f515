"""What stands behind every door: admit -> wait -> judge -> record."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import grm_service
from grm_service import tracing
from grm_service.audit.records import Reason, Record
from grm_service.audit.trail import Trail
from grm_service.engines.base import Engine, MetaRM
from grm_service.errors import (
    AuditUnavailable,
    Draining,
    EngineNotReady,
    EngineUnreachable,
    GRMError,
)
from grm_service.judging.judge import GenerativeRewardModel, OnEvent
from grm_service.judging.plan import plan
from grm_service.profiles.catalog import Catalog, fingerprint
from grm_service.profiles.profile import Profile, Scale
from grm_service.review.reasons import reasons as review_reasons
from grm_service.review.reasons import worth
from grm_service.serving.metrics import Metrics
from grm_service.serving.queue import RequestQueue
from grm_service.serving.single_flight import Reuse, SingleFlight
from grm_service.serving.usage import CallerUsage
from grm_service.serving.validation import Validator
from grm_service.types import Caller, Message, Principle, PrincipleSpec, Requester, Task, Usage, Verdict

logger = logging.getLogger(__name__)
_KEPT_VERDICTS = 4096
_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """`text_chars` bounds every single text of a request; `samples` are generated at once, `waiting` requests
    wait for that; for `replay_s` seconds a repeated request gets the verdict that it got before.
    """

    text_chars: int = 200_000
    samples: int = 256
    waiting: int = 2048
    replay_s: float = 300.0


class Service:
    """One engine, the catalog, the profile that a request gets when it names none, and the audit trail.

    `chosen` tells why this engine runs; `meta_rm` is the one that the profile names, where it runs here.
    """

    def __init__(
        self,
        catalog: Catalog,
        profile: Profile,
        engine: Engine,
        chosen: str,
        trail: Trail,
        limits: Limits = Limits(),
        meta_rm: MetaRM | None = None,
    ) -> None:
        self.catalog = catalog
        self.profile = profile
        self.engine = engine
        self.chosen = chosen
        self.meta_rm = meta_rm
        self.trail = trail
        self.validator = Validator(catalog, profile, engine, limits.text_chars, grades=meta_rm is not None)
        self.queue = RequestQueue(limits.samples, limits.waiting)
        self.metrics = Metrics(self.queue)
        self.alarms: tuple[Reason, ...] = ()
        self._limits = limits
        self._judge = GenerativeRewardModel(engine, self.metrics, meta_rm)
        self._single_flight: SingleFlight[Record] = SingleFlight(limits.replay_s, _KEPT_VERDICTS)
        self._started = asyncio.Event()
        self._lacking = "the model is still being loaded; ask /readyz"
        self.draining = False
        self._spent: dict[str, CallerUsage] = {}

    @property
    def replay_s(self) -> float:
        """For how long a repeated request gets the verdict that it got before."""
        return self._limits.replay_s

    @property
    def ready(self) -> bool:
        """Whether the model has produced a token and a request would be served now."""
        models = self.engine.ready and (self.meta_rm is None or self.meta_rm.ready)
        return self._started.is_set() and models and self.trail.writable and not self.draining

    def require_ready(self) -> None:
        """Raises EngineNotReady with the reason where a request would not be served now."""
        if self.draining:
            raise Draining("this server is shutting down: ask another")
        if not self._started.is_set():
            raise EngineNotReady(self._lacking)
        if not self.engine.ready:
            raise EngineNotReady(f"the {self.engine.name} engine does not answer; it is being brought back")
        if self.meta_rm is not None and not self.meta_rm.ready:
            raise EngineNotReady("the meta RM does not answer; it is being brought back")
        if not self.trail.writable:
            raise AuditUnavailable("the audit trail cannot be written (the log says why); it is tried again")

    async def start(self, patient: bool = False) -> None:
        """Opens the trail, loads engine and meta RM; `patient` waits for a server that cannot be reached yet.

        Raises AuditUnavailable, ModelNotLoaded, EngineUnreachable.
        """
        await asyncio.to_thread(self.trail.open)
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
                logger.warning("%s; it is waited for", away)
                self._lacking = (
                    f"the {what}'s server cannot be reached yet (the log says why); it is waited for"
                )
            await asyncio.sleep(_AGAIN_S)

    def drain(self) -> None:
        """From now on nothing new is taken; what is under way goes on."""
        self.draining = True

    async def close(self) -> None:
        self._started.clear()
        await self.engine.close()
        if self.meta_rm is not None:
            await self.meta_rm.close()
        await asyncio.to_thread(self.trail.close)

    async def judge(
        self, task: Task, on_event: OnEvent | None = None, requester: Requester = Requester()
    ) -> Record:
        """The verdict on a task, named and dated; the same one for all who ask the same (see SingleFlight).

        The time that a task has runs from here on, waiting included. Raises the errors of errors.py.
        """
        with tracing.span(
            "judgement", {"grm.route": requester.route, "grm.responses": len(task.responses)}
        ) as span:
            try:
                record, how = await self._asked(task, on_event, requester)
            except GRMError as failed:
                self.metrics.failed(failed)
                raise
            span.note(_span_attributes(record, how))
        self.metrics.asked(how)
        self._spent[requester.caller.name] = self.spent(requester.caller).add(record, judged=how == "miss")
        return replace(record, replayed=how == "hit")

    async def _asked(
        self, task: Task, on_event: OnEvent | None, requester: Requester
    ) -> tuple[Record, Reuse]:
        arrived = asyncio.get_running_loop().time()
        task, profile, standard = self.validator.task(task)
        self.require_ready()

        async def judged() -> Record:
            return await self._judged(task, profile, standard, requester, arrived, on_event)

        judge = _digest(profile, standard, self.engine.model, requester.caller.name, requester.route)
        body = _digest(task)
        key = _digest(judge, body) if requester.key is None else _digest(judge, "key", requester.key)
        return await self._single_flight.run(key, body, judged)

    async def _judged(
        self,
        task: Task,
        profile: Profile,
        standard: tuple[Principle, ...],
        requester: Requester,
        arrived: float,
        on_event: OnEvent | None,
    ) -> Record:
        timeout_s = task.options.timeout_s
        deadline = None if timeout_s is None else arrived + timeout_s
        planned = plan(task, profile, standard)
        async with self.reserve(len(planned.orders), requester, deadline):
            begun = asyncio.get_running_loop().time()
            left_s = None if deadline is None else deadline - begun
            planned = replace(planned, task=task.with_options(timeout_s=left_s))
            verdict = await self._judge.judge(planned, on_event)
        record = self._record(task, profile, standard, requester, verdict, begun - arrived)
        # Not in the trail, not given out: nobody acts on a verdict that nobody can look up.
        await self.trail.keep(record)
        self.metrics.judged(record, requester.synthetic)
        return record

    def _record(
        self,
        task: Task,
        profile: Profile,
        standard: tuple[Principle, ...],
        requester: Requester,
        verdict: Verdict,
        queue_s: float,
    ) -> Record:
        reasons: tuple[Reason, ...] = ()
        if not requester.synthetic:
            reasons = review_reasons(verdict, profile.scale, self.trail.unsound, self.alarms)
        return Record(
            id="vd_" + uuid.uuid4().hex,
            created=datetime.now(UTC),
            task=task,
            standard=standard,
            constitution=fingerprint(standard) if standard else None,
            verdict=verdict,
            queue_s=queue_s,
            caller=requester.caller.name,
            route=requester.route,
            engine=self.engine.name,
            version=grm_service.__version__,
            reasons=reasons,
            worth=worth(reasons),
        )

    def check(self, task: Task) -> None:
        """Raise what `judge` would raise before any work: BadTask and its kinds, EngineNotReady."""
        self.validator.task(task)
        self.require_ready()

    def find_profile(self, name: str | None) -> Profile:
        """Return the profile of that name, the default for None. Raises UnknownName, ProfileNotServed."""
        return self.validator.profile(name)

    def reserve(
        self, samples: int, requester: Requester, deadline: float | None = None
    ) -> AbstractAsyncContextManager[None]:
        """Wait in the queue and hold room for `samples` on the engine; `deadline` is on the loop's clock.

        Raises Overloaded, and Shed where the deadline cannot be met.
        """
        return self.queue.place(samples, requester.caller, requester.priority, deadline)

    def count_tokens(self, usage: Usage) -> None:
        """Count what was generated on the engine outside of judgements."""
        self.metrics.spent(usage)

    def scale(self, record: Record) -> Scale:
        """Between which numbers the rewards of a verdict lie."""
        return self.validator.profile(record.verdict.profile).scale

    async def replay(self, record: Record) -> Verdict:
        """Judges again what was judged, by the principles that stood in its prompt; nothing is recorded.

        Raises UnknownName, ProfileNotServed and MetaRMNotServed where profile or meta RM is not here, and
        what the judge raises.
        """
        profile, task, first = self.validator.profile(record.verdict.profile), record.task, record.verdict
        # Principles that were written for the query are in the record: they are not written again.
        mode = "fixed" if task.options.principles.mode == "query" else task.options.principles.mode
        task = task.with_options(
            principles=PrincipleSpec(mode), timeout_s=None, k_meta=task.options.k_meta or 0
        )
        task = self.validator.guided(task, profile)
        return await self._judge.judge(plan(task, profile, first.principles))

    async def principles(
        self,
        messages: tuple[Message, ...],
        profile_name: str | None,
        constitution: PrincipleSpec,
        requester: Requester = Requester(),
    ) -> tuple[Profile, tuple[Principle, ...], Usage]:
        """Principles for a query without judging anything."""
        profile, standard = self.validator.query(messages, profile_name, replace(constitution, mode="query"))
        self.require_ready()
        async with self.reserve(1, requester):
            written, usage = await self._judge.principles.write(profile, messages, standard)
        return profile, written, usage

    def spent(self, caller: Caller) -> CallerUsage:
        """What a caller has had since the start."""
        return self._spent.get(caller.name, CallerUsage())


def _digest(*parts: object) -> str:
    """Of frozen values, whose repr is canonical."""
    return hashlib.sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()


def _span_attributes(record: Record, how: Reuse) -> tracing.Attributes:
    """Return what a trace shows of a judgement; never texts."""
    verdict = record.verdict
    return {
        "gen_ai.request.model": verdict.model,
        "grm.verdict": record.id,
        "grm.status": verdict.status,
        "grm.profile": verdict.profile,
        "grm.k": verdict.k,
        "grm.valid": sum(sample.critique is not None for sample in verdict.samples),
        "grm.stopped": verdict.stopped,
        "grm.agreement": verdict.vote.agreement,
        "grm.queue_s": record.queue_s,
        "grm.replay": how,
        **(tracing.spent(verdict.usage) if how == "miss" else {}),
    }
