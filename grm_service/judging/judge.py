"""The judge: plan -> sample in waves, grade -> vote. One copy, for serving, evaluation and training."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from grm_service import tracing
from grm_service.concurrency import SharedTask
from grm_service.engines.base import Engine, MetaRM
from grm_service.errors import (
    FAILURES,
    AllUnreadable,
    DeadlineExceeded,
    EngineError,
    MetaRMFailed,
    PrinciplesUnreadable,
    PromptTooLong,
    ResponseUnread,
)
from grm_service.judging import parse
from grm_service.judging.early_stop import ScoreRow, next_wave
from grm_service.judging.orders import sample_seed
from grm_service.judging.plan import LEAST_SPLIT, Plan, plan
from grm_service.judging.prompt import judgement, render_query
from grm_service.judging.sampler import SampleObserver, Sampler, complete
from grm_service.judging.vote import keep, vote
from grm_service.profiles.catalog import fingerprint
from grm_service.profiles.profile import Profile
from grm_service.types import Completion, Message, Params, Principle, Sample, Usage, Verdict

logger = logging.getLogger(__name__)
OnEvent = Callable[[Plan | Sample], None]
"""Is told the plan, then every sample as it is finished; another plan where the first did not fit."""
_CACHED_QUERIES = 1024
TOO_LONG_TO_GRADE = "too_long_to_grade"
"""The error of a sample that does not fit into the meta RM's context."""
WRITINGS = 3
"""How often principles are written, at most, until one can be read."""


class GenerativeRewardModel:
    """Judges tasks with one engine; a meta RM chooses among its samples where the task asks for it."""

    def __init__(
        self, engine: Engine, watch: SampleObserver | None = None, meta_rm: MetaRM | None = None
    ) -> None:
        self.engine = engine
        self._meta_rm = meta_rm
        self._watch = watch
        self._sampler = Sampler(engine, watch)
        self._written: dict[object, SharedTask[tuple[tuple[Principle, ...], Usage]]] = {}

    async def judge(self, planned: Plan, on_event: OnEvent | None = None) -> Verdict:
        """Return the verdict on a plan, from the samples at hand once the task's `timeout_s` has passed.

        In mode "query" the plan's principles are the constitution above those written here. Raises
        AllUnreadable, ResponseUnread, PrinciplesUnreadable, DeadlineExceeded, PromptTooLong, EngineError.
        """
        started, timeout_s = time.monotonic(), planned.task.options.timeout_s
        deadline = None if timeout_s is None else started + timeout_s
        planned, usage = await self._with_principles(planned)
        samples = tuple[Sample, ...]()
        splits = not planned.in_blocks and len(planned.task.responses) >= LEAST_SPLIT
        try:
            samples = await self._samples(planned, deadline, on_event)
        except PromptTooLong:
            if not splits:
                raise
        if splits and all(sample.error == TOO_LONG_TO_GRADE for sample in samples):
            planned = plan(planned.task, planned.profile, planned.principles, split=True)
            samples = await self._samples(planned, deadline, on_event)
        return self._verdict(planned, samples, usage, time.monotonic() - started)

    async def _with_principles(self, planned: Plan) -> tuple[Plan, Usage]:
        """Return the plan with the principles that stand in its prompt, and what writing them cost."""
        if planned.task.options.principles.mode != "query":
            return planned, Usage()
        try:
            async with asyncio.timeout(planned.task.options.timeout_s):
                written, usage = await self.principles(
                    planned.profile, planned.task.messages, planned.principles
                )
        except TimeoutError:
            raise DeadlineExceeded("time ran out while the principles were written") from None
        return replace(planned, principles=written), usage

    async def principles(
        self, profile: Profile, messages: tuple[Message, ...], constitution: tuple[Principle, ...] = ()
    ) -> tuple[tuple[Principle, ...], Usage]:
        """Principles written from the query alone, once per query, then kept. Raises PrinciplesUnreadable."""
        key = (profile, messages, constitution)
        written = self._written.get(key)
        if written is None or written.failed or written.abandoned:
            while len(self._written) >= _CACHED_QUERIES:
                self._written.pop(next(iter(self._written)))
            written = SharedTask(self._write_principles(profile, messages, constitution))
            self._written[key] = written
        return await written.wait()

    async def _write_principles(
        self, profile: Profile, messages: tuple[Message, ...], constitution: tuple[Principle, ...]
    ) -> tuple[tuple[Principle, ...], Usage]:
        start = "1." if self.engine.abilities.continues else ""
        prompt = render_query(profile, messages, constitution, self.engine.control_tokens)
        spent = Usage()
        for attempt in range(WRITINGS):
            sampling = profile.sampling
            warmth = sampling.temperature if attempt else 0.0
            params = Params(sampling.max_tokens, warmth, sampling.top_p, sample_seed(0, attempt))
            asked = tracing.asked(self.engine.name, self.engine.model, params)
            with tracing.span("principles", asked, "CLIENT") as span:
                completion = await complete(self.engine, replace(prompt, continuation=start), params)
                span.note(tracing.spent(completion.usage))
            spent += completion.usage
            if self._watch is not None:
                self._watch.spent(completion.usage)
            if found := parse.principles(_whole_lines(start + completion.text, completion)):
                return found, spent
        raise PrinciplesUnreadable(f"no principle could be read in {WRITINGS} attempts for this query")

    async def _samples(
        self, planned: Plan, deadline: float | None, on_event: OnEvent | None
    ) -> tuple[Sample, ...]:
        """Wave after wave until the task's rule stops, all are taken, or time is up."""
        task, k, taken = planned.task, len(planned.orders), list[Sample]()
        # A lead in one prompt says nothing of what the others show.
        rule = "none" if planned.in_blocks else task.options.stop
        if on_event is not None:
            on_event(planned)

        def due() -> int:
            rows = [cast("ScoreRow", sample.scores) for sample in taken]
            return next_wave(rule, rows, k, len(task.responses), planned.profile.scale)

        while wave := due():
            if deadline is not None and time.monotonic() >= deadline:
                return (*taken, *(_late(planned, i) for i in range(len(taken), k)))
            taken += await self._wave(planned, range(len(taken), len(taken) + wave), deadline, on_event)
        return tuple(taken)

    async def _wave(
        self, planned: Plan, indices: range, deadline: float | None, on_event: OnEvent | None
    ) -> list[Sample]:
        running = [asyncio.create_task(self._graded(planned, i)) for i in indices]
        for each in running:
            each.add_done_callback(lambda done: _tell(on_event, done))
        left_s = None if deadline is None else deadline - time.monotonic()
        why = None
        try:
            await asyncio.wait(running, timeout=left_s, return_when=asyncio.FIRST_EXCEPTION)
            for each in running:
                if each.done():
                    each.result()
            why = DeadlineExceeded.code
            return [
                each.result() if each.done() else _late(planned, i)
                for i, each in zip(indices, running, strict=True)
            ]
        finally:
            for each in running:
                each.cancel(why)
            await asyncio.gather(*running, return_exceptions=True)

    async def _graded(self, planned: Plan, index: int) -> Sample:
        """A sample, with its grade where the meta RM has to choose."""
        sample = await self._sampler.sample(planned, index)
        if not planned.k_meta or sample.critique is None:
            return sample
        assert self._meta_rm is not None, "the gate lets no such task in"
        task, meta_rm = planned.task, self._meta_rm
        shown = [task.responses[i] for i in sample.order]
        read = judgement(planned.profile, task.messages, shown, sample.text, meta_rm.control_tokens)
        with tracing.span("grade", {"gen_ai.request.model": meta_rm.model, "grm.sample": index}, "CLIENT"):
            try:
                return replace(sample, grade=await meta_rm.grade(read))
            except PromptTooLong as long:
                logger.warning("sample %d of a task was not graded: %s", index, long)
                return replace(sample, critique=None, counted=False, error=TOO_LONG_TO_GRADE)
            except EngineError as failed:
                raise MetaRMFailed(f"the meta RM failed: {failed}") from failed

    def _verdict(self, planned: Plan, samples: tuple[Sample, ...], extra: Usage, seconds: float) -> Verdict:
        readable = [s.scores for s in samples if s.scores is not None]
        if not readable:
            raise _nothing_read(samples)
        unread = [i for i, column in enumerate(zip(*readable, strict=True)) if set(column) == {None}]
        if unread:
            raise ResponseUnread(unread)
        unfiltered, meta_rm = None, None
        if planned.k_meta and self._meta_rm is not None:
            unfiltered, meta_rm = vote(readable), self._meta_rm.model
            samples = _chosen(samples, planned.k_meta)
        return Verdict(
            status="ok" if len(readable) == len(samples) else "partial",
            profile=planned.profile.name,
            fingerprint=fingerprint(planned.profile),
            model=self.engine.model,
            vote=vote([s.scores for s in samples if s.counted and s.scores is not None]),
            k=len(planned.orders),
            stopped=planned.task.options.stop if len(samples) < len(planned.orders) else None,
            samples=samples,
            principles=planned.principles,
            usage=sum((s.usage for s in samples), extra),
            judge_s=seconds,
            unfiltered=unfiltered,
            meta_rm=meta_rm,
        )


def _chosen(samples: tuple[Sample, ...], most: int) -> tuple[Sample, ...]:
    """The samples, with those counted only that the grades leave in the vote."""
    graded = {at: sample.grade for at, sample in enumerate(samples) if sample.grade is not None}
    kept = keep(graded, [sample.order for sample in samples], most)
    return tuple(replace(sample, counted=at in kept) for at, sample in enumerate(samples))


def _whole_lines(text: str, completion: Completion) -> str:
    """Without the last line of a completion that was cut inside it."""
    return text.rpartition("\n")[0] or text if completion.finish_reason == "length" else text


def _tell(on_event: OnEvent | None, done: asyncio.Task[Sample]) -> None:
    if on_event is not None and not done.cancelled() and done.exception() is None:
        on_event(done.result())


def _late(planned: Plan, index: int) -> Sample:
    return Sample(index, planned.params(index).seed, planned.orders[index], error=DeadlineExceeded.code)


def _nothing_read(samples: tuple[Sample, ...]) -> Exception:
    errors = {s.error for s in samples}
    if errors == {DeadlineExceeded.code}:
        return DeadlineExceeded(f"time ran out before any of the {len(samples)} samples was finished")
    if errors <= FAILURES | {DeadlineExceeded.code}:
        return EngineError(f"the engine finished none of the {len(samples)} samples; its log says why")
    return AllUnreadable(samples)
