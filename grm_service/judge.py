"""The judge: order -> render -> complete -> parse -> vote. One copy, for serving, evaluation and training."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from grm_service.catalog import fingerprint
from grm_service.core import parse
from grm_service.core.order import orders, sample_seed, undo
from grm_service.core.profile import Profile, fill
from grm_service.core.prompt import boxed, render, render_query
from grm_service.core.vote import vote
from grm_service.engines.base import Engine
from grm_service.errors import (
    AllUnreadable,
    DeadlineExceeded,
    EngineError,
    EngineNotReady,
    EngineUnreachable,
    PrinciplesUnreadable,
)
from grm_service.types import (
    Completion,
    Message,
    Params,
    Principle,
    Prompt,
    Sample,
    Task,
    Usage,
    Verdict,
)

logger = logging.getLogger(__name__)
OnSample = Callable[[Sample], None]
_KEPT_QUERIES = 1024
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """A task with all that is decided before the first sample; the same task always plans the same."""

    task: Task
    profile: Profile
    principles: tuple[Principle, ...]
    orders: tuple[tuple[int, ...], ...]
    temperature: float
    max_tokens: int

    def params(self, index: int) -> Params:
        return Params(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.profile.sampling.top_p,
            seed=sample_seed(self.task.seed, index),
        )


def plan(task: Task, profile: Profile, principles: tuple[Principle, ...]) -> Plan:
    """Fills what the task leaves open from the profile; one sample is greedy (paper, section 4.1)."""
    k = task.k or profile.sampling.k
    temperature = 0.0 if k == 1 else profile.sampling.temperature
    return Plan(
        task=task,
        profile=profile,
        principles=principles,
        orders=orders(len(task.responses), k, task.seed),
        temperature=temperature if task.temperature is None else task.temperature,
        max_tokens=task.max_tokens or profile.sampling.max_tokens,
    )


class Judge:
    """Judges tasks with one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._written: dict[object, asyncio.Task[tuple[tuple[Principle, ...], Usage]]] = {}

    async def judge(
        self,
        task: Task,
        profile: Profile,
        standard: tuple[Principle, ...] = (),
        on_sample: OnSample | None = None,
    ) -> Verdict:
        """The verdict on a task; `standard` are the principles that people gave (see PrincipleSpec).

        When `task.timeout_s` runs out the verdict is made from the samples at hand. Raises AllUnreadable,
        DeadlineExceeded, PromptTooLong, EngineError; never returns a reward that nobody gave.
        """
        started = time.monotonic()
        principles, usage = standard, Usage()
        if task.principles.mode == "query":
            try:
                async with asyncio.timeout(task.timeout_s):
                    principles, usage = await self.principles(profile, task.messages, standard)
            except TimeoutError:
                raise DeadlineExceeded("time ran out while the principles were written") from None
        planned = plan(task, profile, principles)
        left = None if task.timeout_s is None else task.timeout_s - (time.monotonic() - started)
        samples = await self._samples(planned, left, on_sample)
        return self._verdict(planned, samples, usage, time.monotonic() - started)

    async def principles(
        self, profile: Profile, messages: tuple[Message, ...], constitution: tuple[Principle, ...] = ()
    ) -> tuple[tuple[Principle, ...], Usage]:
        """Principles written from the query alone, once per query, then kept. Raises PrinciplesUnreadable."""
        key = (profile, messages, constitution)
        if key not in self._written:
            while len(self._written) >= _KEPT_QUERIES:
                self._written.pop(next(iter(self._written)))
            writing = asyncio.create_task(self._write_principles(profile, messages, constitution))
            self._written[key] = writing
            writing.add_done_callback(lambda done: self._forget_failed(key, done))
        # Shielded: a caller that goes away must not take the principles from those who wait with it.
        return await asyncio.shield(self._written[key])

    def _forget_failed(self, key: object, done: asyncio.Task[tuple[tuple[Principle, ...], Usage]]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._written.pop(key, None)

    async def _write_principles(
        self, profile: Profile, messages: tuple[Message, ...], constitution: tuple[Principle, ...]
    ) -> tuple[tuple[Principle, ...], Usage]:
        start = "1." if self.engine.abilities.continues else ""
        prompt = render_query(profile, messages, constitution, self.engine.control_tokens)
        spent = Usage()
        for attempt in range(_ATTEMPTS):
            sampling = profile.sampling
            warmth = sampling.temperature if attempt else 0.0
            params = Params(sampling.max_tokens, warmth, sampling.top_p, sample_seed(0, attempt))
            completion = await self.engine.complete(replace(prompt, continuation=start), params)
            spent += completion.usage
            if found := parse.principles(_whole_lines(start + completion.text, completion)):
                return found, spent
        raise PrinciplesUnreadable(f"no principle could be read in {_ATTEMPTS} attempts for this query")

    async def sample(self, planned: Plan, index: int) -> Sample:
        """Sample `index` of a plan. An engine's failure becomes the sample's error; a bad task raises."""
        task, order, params = planned.task, planned.orders[index], planned.params(index)
        empty = Sample(index, params.seed, order)
        prompt = render(
            planned.profile,
            task.messages,
            [task.responses[i] for i in order],
            "fixed" if task.principles.mode == "query" else task.principles.mode,
            planned.principles,
            task.reference,
            self.engine.control_tokens,
        )
        opening = planned.profile.opening if self.engine.abilities.continues else ""
        read = empty
        try:
            completion = await self.engine.complete(replace(prompt, continuation=opening), params)
            read = _read(planned, replace(empty, text=opening + completion.text), completion)
            return read if read.error is None else await self._close(planned, read, prompt, params)
        except EngineError as failed:
            logger.warning("sample %d of a task failed: %s", index, failed)
            return replace(read, error=failed.code)

    async def _close(self, planned: Plan, cut: Sample, prompt: Prompt, params: Params) -> Sample:
        """Finishes a sample that ended without scores: by the profile's closing, or by asking for them."""
        n, closing = len(cut.order), planned.profile.closing
        written = parse.before_closing(cut.text)
        params = replace(params, max_tokens=8 * n + 8)
        if self.engine.abilities.continues:
            start = written + closing.text
            params = replace(params, regex=parse.closing_regex(n, planned.profile.scale))
            completion = await self.engine.complete(Prompt(prompt.messages, start), params)
        else:
            start = written + "\n\n"
            asked = Message("user", fill(closing.ask, {"boxed": boxed(n)}))
            answered = Message("assistant", written or "(no answer)")
            completion = await self.engine.complete(Prompt((*prompt.messages, answered, asked)), params)
        closed = _read(planned, replace(cut, text=start + completion.text, closed=True), completion)
        return closed if closed.error is None else replace(cut, usage=closed.usage)

    async def _samples(
        self, planned: Plan, left_s: float | None, on_sample: OnSample | None
    ) -> tuple[Sample, ...]:
        running = [asyncio.create_task(self.sample(planned, i)) for i in range(len(planned.orders))]
        for each in running:
            each.add_done_callback(lambda done: _tell(on_sample, done))
        try:
            await asyncio.wait(running, timeout=left_s, return_when=asyncio.FIRST_EXCEPTION)
            for each in running:
                if each.done():
                    each.result()
            return tuple(
                each.result() if each.done() else _late(planned, i) for i, each in enumerate(running)
            )
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _verdict(self, planned: Plan, samples: tuple[Sample, ...], extra: Usage, seconds: float) -> Verdict:
        readable = [s.critique.scores for s in samples if s.critique is not None]
        if not readable:
            raise _nothing_read(samples)
        return Verdict(
            status="ok" if len(readable) == len(samples) else "partial",
            profile=planned.profile.name,
            fingerprint=fingerprint(planned.profile),
            model=self.engine.model,
            vote=vote(readable),
            k=len(samples),
            samples=samples,
            principles=planned.principles,
            usage=sum((s.usage for s in samples), extra),
            judge_s=seconds,
        )


def _whole_lines(text: str, completion: Completion) -> str:
    """Without the last line of a completion that was cut inside it."""
    return text.rpartition("\n")[0] or text if completion.finish_reason == "length" else text


def _read(planned: Plan, sample: Sample, completion: Completion) -> Sample:
    sample = replace(
        sample,
        usage=sample.usage + completion.usage,
        finish_reason=sample.finish_reason or completion.finish_reason,
    )
    try:
        critique = parse.parse(sample.text, len(sample.order), planned.profile)
    except parse.Unreadable as unreadable:
        return replace(sample, error=unreadable.reason)
    scores = undo(sample.order, critique.scores)
    return replace(sample, critique=replace(critique, scores=scores), error=None, counted=True)


def _tell(on_sample: OnSample | None, done: asyncio.Task[Sample]) -> None:
    if on_sample is not None and not done.cancelled() and done.exception() is None:
        on_sample(done.result())


def _late(planned: Plan, index: int) -> Sample:
    return Sample(index, planned.params(index).seed, planned.orders[index], error=DeadlineExceeded.code)


def _nothing_read(samples: tuple[Sample, ...]) -> Exception:
    errors = {s.error for s in samples}
    if errors == {DeadlineExceeded.code}:
        return DeadlineExceeded(f"time ran out before any of the {len(samples)} samples was finished")
    if errors <= {failed.code for failed in (EngineError, EngineUnreachable, EngineNotReady)}:
        return EngineError(f"the engine failed for all {len(samples)} samples; its log says why")
    return AllUnreadable(samples)
