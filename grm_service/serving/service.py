"""The service behind every route: validate -> deduplicate -> queue -> judge -> record."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from grm_service import tracing
from grm_service.audit.records import Reason, Record
from grm_service.audit.trail import Trail
from grm_service.cache import ByteCache
from grm_service.callers import Caller, Requester
from grm_service.concurrency import Room, off_the_loop
from grm_service.engines.base import Engine, MetaRM
from grm_service.engines.limited import LimitedEngine, LimitedMetaRM
from grm_service.errors import GRMError
from grm_service.judging.judge import GenerativeRewardModel, OnEvent
from grm_service.judging.plan import plan
from grm_service.profiles.catalog import Catalog, fingerprint
from grm_service.profiles.profile import Profile, Scale
from grm_service.review.reasons import reasons as review_reasons
from grm_service.review.reasons import worth
from grm_service.review.reviews import VerdictArchive
from grm_service.serving.grouping import GroupCache
from grm_service.serving.lifecycle import Lifecycle
from grm_service.serving.metrics import Metrics
from grm_service.serving.queue import RequestQueue
from grm_service.serving.single_flight import Reuse, SingleFlight
from grm_service.serving.usage import CallerUsage
from grm_service.serving.validation import Validator, query_chars, request_chars
from grm_service.types import Message, Principle, PrincipleSpec, Task, Usage, Verdict
from grm_service.version import __version__


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a service.

    `text_chars`: most characters of a single text in a request. `samples`: generated at once. `waiting`:
    requests in the queue for them. `replay_s`: seconds for which a repeated request gets the same verdict, if
    it is among the last `cache_bytes` of verdicts. `prompt_chars`: most characters of the prompts of one
    request, and of those that are generated from at once.
    """

    text_chars: int = 200_000
    samples: int = 256
    waiting: int = 2048
    replay_s: float = 300.0
    prompt_chars: int = 2**25
    cache_bytes: int = 2**27


class Service(Lifecycle):
    """A judge with its queue, its cache of verdicts and its audit trail.

    `profile` is the default for requests that name none. `chosen` is the reason why this engine runs.
    `meta_rm` is the default profile's meta RM, if it runs here. `alarms` are reasons to review every verdict
    for as long as they hold.
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
        super().__init__(engine, meta_rm, trail)
        self.catalog = catalog
        self.profile = profile
        self.chosen = chosen
        self.archive = VerdictArchive(trail)
        self.validator = Validator(
            catalog, profile, engine, limits.text_chars, limits.prompt_chars, grades=meta_rm is not None
        )
        self.queue = RequestQueue(limits.samples, limits.waiting, limits.prompt_chars)
        self.metrics = Metrics(self.queue)
        self.metrics.watch(trail)
        self.alarms: tuple[Reason, ...] = ()
        self._room = Room(limits.samples, limits.prompt_chars)
        grader = None if meta_rm is None else LimitedMetaRM(meta_rm, self._room)
        self._grm = GenerativeRewardModel(self.limited(engine), self.metrics, grader)
        self._single_flight = SingleFlight[Record](ByteCache(limits.cache_bytes, limits.replay_s))
        self.groups: GroupCache = ByteCache(limits.cache_bytes, limits.replay_s)
        self._usage: dict[str, CallerUsage] = {}

    def limited(self, engine: Engine) -> Engine:
        """Return an engine whose completions count among those that this service has under way at once."""
        return LimitedEngine(engine, self._room)

    async def judge(
        self, task: Task, on_event: OnEvent | None = None, requester: Requester = Requester()
    ) -> Record:
        """Return the recorded verdict on a task; identical requests share one (single_flight.py).

        The task's `timeout_s` starts here and includes waiting. Raises the errors of errors.py.
        """
        with tracing.span(
            "judgement", {"grm.route": requester.route, "grm.responses": len(task.responses)}
        ) as span:
            try:
                with self.queue.hold_texts(request_chars(task)):
                    record, reuse = await self._judge_once(task, on_event, requester)
            except GRMError as failed:
                self.metrics.failed(failed)
                raise
            span.note(_span_attributes(record, reuse))
        self.metrics.answered(reuse)
        usage = self.usage_of(requester.caller).add(record, judged=reuse == "miss")
        self._usage[requester.caller.name] = usage
        return replace(record, replayed=reuse == "hit")

    async def _judge_once(
        self, task: Task, on_event: OnEvent | None, requester: Requester
    ) -> tuple[Record, Reuse]:
        arrived = asyncio.get_running_loop().time()
        task, profile, standard = self.validator.task(task)
        self.require_ready()
        chars = self.validator.prompt_chars(task, profile, standard)

        async def work() -> Record:
            return await self._judge_and_record(task, profile, standard, chars, requester, arrived, on_event)

        caller, route, priority = requester.caller.name, requester.route, requester.priority
        judge = _digest(profile, standard, self.engine.model, caller, route, priority)
        body = await off_the_loop(chars, _digest_task, task)
        key = _digest(judge, body) if requester.key is None else _digest(judge, "key", requester.key)
        return await self._single_flight.run(key, body, work)

    async def _judge_and_record(
        self,
        task: Task,
        profile: Profile,
        standard: tuple[Principle, ...],
        chars: int,
        requester: Requester,
        arrived: float,
        on_event: OnEvent | None,
    ) -> Record:
        timeout_s = task.options.timeout_s
        deadline = None if timeout_s is None else arrived + timeout_s
        planned = plan(task, profile, standard)
        async with self.reserve(len(planned.orders), chars, requester, deadline):
            begun = asyncio.get_running_loop().time()
            left_s = None if deadline is None else deadline - begun
            planned = replace(planned, task=task.with_options(timeout_s=left_s))
            verdict = await self._grm.judge(planned, on_event)
        record = await off_the_loop(
            chars, self._record, task, profile, standard, requester, verdict, begun - arrived
        )
        # Recorded before it is returned: nobody may act on a verdict that cannot be looked up.
        await self.trail.append(record)
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
            unsound = self.trail.unsound(requester.caller.name)
            reasons = review_reasons(verdict, profile.scale, unsound, self.alarms)
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
            version=__version__,
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

    @contextmanager
    def admit(self, requester: Requester) -> Iterator[Requester]:
        """Count a request of many steps as one of the caller's; yield the requester of its steps.

        Raises ShareTaken if the caller has its maximum of requests.
        """
        with nullcontext() if requester.admitted else self.queue.admit(requester.caller):
            yield replace(requester, admitted=True)

    @asynccontextmanager
    async def reserve(
        self, samples: int, prompt_chars: int, requester: Requester, deadline: float | None = None
    ) -> AsyncIterator[None]:
        """Wait in the queue and hold room for `samples`, whose prompts have `prompt_chars` characters in all.

        `deadline` is on the loop's clock. Raises TooMuchText, Overloaded, and Shed where the deadline cannot
        be met.
        """
        self.validator.bound_prompts(
            f"{samples} prompts", prompt_chars, "lower their number, or send less text"
        )
        caller, priority = requester.caller, requester.priority
        with self.admit(requester):
            async with self.queue.reserve(samples, prompt_chars, caller, priority, deadline):
                yield

    def count_tokens(self, usage: Usage) -> None:
        """Count what was generated on the engine outside of judgements."""
        self.metrics.spent(usage)

    def scale(self, record: Record) -> Scale:
        """Return the scale of a verdict's rewards."""
        return self.validator.profile(record.verdict.profile).scale

    async def replay(self, record: Record) -> Verdict:
        """Return a new verdict on a recorded task, with the principles of its prompt; record nothing.

        Raises UnknownName, ProfileNotServed or MetaRMNotServed if profile or meta RM is not served here, and
        what the judge raises.
        """
        profile, task = self.validator.profile(record.verdict.profile), record.task
        # Principles written for the query are in the record, so they are not written again.
        mode = "fixed" if task.options.principles.mode == "query" else task.options.principles.mode
        task = task.with_options(
            principles=PrincipleSpec(mode), timeout_s=None, k_meta=task.options.k_meta or 0
        )
        task = self.validator.with_k_meta(task, profile)
        return await self._grm.judge(plan(task, profile, record.verdict.principles))

    async def principles(
        self,
        messages: tuple[Message, ...],
        profile_name: str | None,
        constitution: PrincipleSpec,
        requester: Requester = Requester(),
    ) -> tuple[Profile, tuple[Principle, ...], Usage]:
        """Return the profile, the principles that it writes for a query, and their cost; judge nothing."""
        profile, standard = self.validator.query(messages, profile_name, replace(constitution, mode="query"))
        self.require_ready()
        async with self.reserve(1, query_chars(messages, standard), requester):
            principles, usage = await self._grm.principles.write(profile, messages, standard)
        return profile, principles, usage

    def usage_of(self, caller: Caller) -> CallerUsage:
        """Return what a caller has used since the start."""
        return self._usage.get(caller.name, CallerUsage())


def _digest(*parts: object) -> str:
    """Return the hash of frozen values, whose repr is canonical."""
    return hashlib.sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()


def _digest_task(task: Task) -> str:
    """Return the same hash of a task; its long texts are hashed one by one, which lets other threads run."""
    messages = [(message.role, _digest(message.content)) for message in task.messages]
    texts = messages, [_digest(response) for response in task.responses], _digest(task.reference)
    return _digest(texts, task.profile, task.options)


def _span_attributes(record: Record, reuse: Reuse) -> tracing.Attributes:
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
        "grm.replay": reuse,
        **(tracing.usage_attributes(verdict.usage) if reuse == "miss" else {}),
    }
