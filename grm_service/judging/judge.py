"""The judge: write principles if asked to, sample in waves, grade, vote.

Serving, evaluation and training all judge through this module and the sampler.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, cast

from grm_service import tracing
from grm_service.concurrency import off_the_loop
from grm_service.engines.base import Engine, MetaRM
from grm_service.errors import (
    AllUnreadable,
    DeadlineExceeded,
    EngineError,
    MetaRMFailed,
    PromptTooLong,
    ResponseUnread,
    SoftNotServed,
    UpstreamRefused,
)
from grm_service.failures import ENGINE_FAILURES, REFUSALS
from grm_service.judging.early_stop import ScoreRow, next_wave
from grm_service.judging.plan import MIN_SPLIT, Plan, plan
from grm_service.judging.principle_writer import PrincipleWriter
from grm_service.judging.prompt import TaskTexts, grader_texts, render_judgement_of
from grm_service.judging.sampler import SampleObserver, Sampler
from grm_service.judging.vote import select_by_grade, vote
from grm_service.profiles.catalog import fingerprint
from grm_service.types import Sample, Usage, Verdict

logger = logging.getLogger(__name__)
OnEvent = Callable[[Plan | Sample], None]
"""Called with the plan, then with every finished sample; with a second plan if the first did not fit."""
TOO_LONG_TO_GRADE = "too_long_to_grade"
"""The error of a sample that does not fit into the meta RM's context."""


class _Texts(NamedTuple):
    """A task's texts in the prompts of the judge, and of the meta RM if grades select the samples to vote."""

    judge: TaskTexts
    grader: TaskTexts | None


class GenerativeRewardModel:
    """Judges tasks with one engine; a meta RM grades the samples if there is one and the task wants it."""

    def __init__(
        self, engine: Engine, observer: SampleObserver | None = None, meta_rm: MetaRM | None = None
    ) -> None:
        self.engine = engine
        self.principles = PrincipleWriter(engine, observer)
        self._meta_rm = meta_rm
        self._sampler = Sampler(engine, observer)

    async def judge(self, planned: Plan, on_event: OnEvent | None = None) -> Verdict:
        """Return the verdict on a plan, from the samples at hand once the task's `timeout_s` has passed.

        In mode "query" the plan's principles are the constitution above those written here. Raises
        AllUnreadable, ResponseUnread, PrinciplesUnreadable, DeadlineExceeded, PromptTooLong, EngineError.
        """
        started, timeout_s = time.monotonic(), planned.task.options.timeout_s
        deadline = None if timeout_s is None else started + timeout_s
        planned, usage = await self._with_principles(planned)
        samples = tuple[Sample, ...]()
        splits = not planned.in_blocks and len(planned.task.responses) >= MIN_SPLIT
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
        """Return the plan with the principles of its prompt, and the tokens that writing them used."""
        if planned.task.options.principles.mode != "query":
            return planned, Usage()
        try:
            async with asyncio.timeout(planned.task.options.timeout_s):
                written, usage = await self.principles.write(
                    planned.profile, planned.task.messages, planned.principles, planned.thinking_tokens
                )
        except TimeoutError:
            raise DeadlineExceeded("time ran out while the principles were written") from None
        return replace(planned, principles=written), usage

    async def _samples(
        self, planned: Plan, deadline: float | None, on_event: OnEvent | None
    ) -> tuple[Sample, ...]:
        """Return the samples of all waves, until the stopping rule is met, all have run, or time is up."""
        task, k, samples = planned.task, len(planned.orders), list[Sample]()
        # A lead within one block says nothing about the responses of the others.
        rule = "none" if planned.in_blocks else task.options.stop
        if on_event is not None:
            on_event(planned)
        texts = await self._texts(planned)

        def size_of_next_wave() -> int:
            rows = [cast("ScoreRow", sample.scores) for sample in samples]
            return next_wave(rule, rows, k, len(task.responses), planned.profile.scale)

        while wave := size_of_next_wave():
            if deadline is not None and time.monotonic() >= deadline:
                return (*samples, *(_late(planned, i) for i in range(len(samples), k)))
            samples += await self._wave(
                planned, texts, range(len(samples), len(samples) + wave), deadline, on_event
            )
        return tuple(samples)

    async def _texts(self, planned: Plan) -> _Texts:
        """Return the neutralised texts of a plan, which all of its samples share."""
        grader = None
        if planned.k_meta:
            assert self._meta_rm is not None, "validation rejects k_meta without a meta RM"
            task, tokens = planned.task, self._meta_rm.control_tokens
            grader = await off_the_loop(
                planned.chars, grader_texts, planned.profile, task.messages, task.responses, tokens
            )
        return _Texts(await self._sampler.texts(planned), grader)

    async def _wave(
        self,
        planned: Plan,
        texts: _Texts,
        indices: range,
        deadline: float | None,
        on_event: OnEvent | None,
    ) -> list[Sample]:
        """Return the samples of one wave; those that the deadline cuts off have it as their error."""
        running = [asyncio.create_task(self._graded(planned, texts, i)) for i in indices]
        for each in running:
            each.add_done_callback(lambda done: _notify(on_event, done))
        left_s = None if deadline is None else deadline - time.monotonic()
        reason = None
        try:
            await asyncio.wait(running, timeout=left_s, return_when=asyncio.FIRST_EXCEPTION)
            for each in running:
                if each.done():
                    each.result()
            reason = DeadlineExceeded.code
            return [
                each.result() if each.done() else _late(planned, i)
                for i, each in zip(indices, running, strict=True)
            ]
        finally:
            for each in running:
                each.cancel(reason)
            await asyncio.gather(*running, return_exceptions=True)

    async def _graded(self, planned: Plan, texts: _Texts, index: int) -> Sample:
        """Return a sample, with the meta RM's grade if grades select the samples to vote."""
        sample = await self._sampler.sample(planned, index, texts.judge)
        if texts.grader is None or sample.critique is None:
            return sample
        assert self._meta_rm is not None
        meta_rm = self._meta_rm
        messages = await off_the_loop(
            len(sample.text),
            render_judgement_of,
            planned.profile,
            texts.grader,
            sample.order,
            sample.text,
            meta_rm.control_tokens,
        )
        with tracing.span("grade", {"gen_ai.request.model": meta_rm.model, "grm.sample": index}, "CLIENT"):
            try:
                return replace(sample, grade=await meta_rm.grade(messages))
            except PromptTooLong as long:
                logger.warning("sample %d of a task was not graded: %s", index, long.message)
                return replace(sample, critique=None, counted=False, error=TOO_LONG_TO_GRADE)
            except UpstreamRefused:
                raise
            except EngineError as failed:
                raise MetaRMFailed(f"the meta RM failed: {failed.message}", failed.reason) from failed

    def _verdict(self, planned: Plan, samples: tuple[Sample, ...], extra: Usage, seconds: float) -> Verdict:
        readable = [s.scores for s in samples if s.scores is not None]
        if not readable:
            raise _nothing_readable(samples)
        if planned.task.options.score == "soft":
            _require_soft_scores(samples)
        without_score = [i for i, column in enumerate(zip(*readable, strict=True)) if set(column) == {None}]
        if without_score:
            raise ResponseUnread(without_score)
        unfiltered, meta_rm = None, None
        if planned.k_meta and self._meta_rm is not None:
            unfiltered, meta_rm = vote(readable), self._meta_rm.model
            samples = _select(samples, planned.k_meta)
        return Verdict(
            status="ok" if all(map(_is_complete, samples)) else "partial",
            profile=planned.profile.name,
            fingerprint=fingerprint(planned.profile),
            model=self.engine.model,
            vote=vote([s.scores for s in samples if s.counted and s.scores is not None]),
            k=planned.k,
            stopped=planned.task.options.stop if len(samples) < len(planned.orders) else None,
            samples=samples,
            principles=planned.principles,
            usage=sum((s.usage for s in samples), extra),
            judge_s=seconds,
            unfiltered=unfiltered,
            meta_rm=meta_rm,
        )


def _select(samples: tuple[Sample, ...], limit: int) -> tuple[Sample, ...]:
    """Return the samples, `counted` only if the grades leave them in the vote."""
    grades = {at: sample.grade for at, sample in enumerate(samples) if sample.grade is not None}
    selected = select_by_grade(grades, [sample.order for sample in samples], limit)
    return tuple(replace(sample, counted=at in selected) for at, sample in enumerate(samples))


def _notify(on_event: OnEvent | None, done: asyncio.Task[Sample]) -> None:
    if on_event is not None and not done.cancelled() and done.exception() is None:
        on_event(done.result())


def _late(planned: Plan, index: int) -> Sample:
    return Sample(index, planned.params(index).seed, planned.orders[index], error=DeadlineExceeded.code)


def _is_complete(sample: Sample) -> bool:
    return sample.error is None and sample.soft_error is None


def _require_soft_scores(samples: tuple[Sample, ...]) -> None:
    """Raise SoftNotServed if the engine can continue no readable sample, so that all votes are hard."""
    errors = {sample.soft_error for sample in samples if sample.critique is not None}
    if errors == {SoftNotServed.code}:
        raise SoftNotServed(
            "the samples have thinking, and this server's engine cannot continue an answer after thinking, "
            "so there are no soft scores: use score 'hard', or thinking_tokens 0 if the judge can do without"
        )


def _nothing_readable(samples: tuple[Sample, ...]) -> Exception:
    failed = [s for s in samples if s.error != DeadlineExceeded.code]
    if not failed:
        return DeadlineExceeded(f"time ran out before any of the {len(samples)} samples was finished")
    errors, why = {s.error for s in failed}, failed[0].error_detail or "its log says why"
    if errors <= REFUSALS.keys():
        return REFUSALS[failed[0].error or ""]("no sample was written", why)
    if errors <= ENGINE_FAILURES | REFUSALS.keys():
        return EngineError(f"the engine finished none of the {len(samples)} samples", why)
    return AllUnreadable(samples)
