"""One sample: order -> render -> complete -> parse. The same for serving, evaluation and training."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from grm_service import tracing
from grm_service.engines.base import Engine
from grm_service.errors import BadTask, EngineError, code_of
from grm_service.judging import parse, soft_scores
from grm_service.judging.orders import undo
from grm_service.judging.plan import Plan
from grm_service.judging.prompt import boxed, render
from grm_service.profiles.profile import fill
from grm_service.types import Alternative, Completion, Message, Params, Prompt, Sample, Usage

logger = logging.getLogger(__name__)


class SampleObserver(Protocol):
    """Is told what generating costs."""

    def sampled(self, sample: Sample, seconds: float) -> None:
        """A sample that was begun has ended; one that was cut off has the reason as its error."""

    def spent(self, usage: Usage) -> None:
        """Tokens beside those of samples."""


async def complete(engine: Engine, prompt: Prompt, params: Params) -> Completion:
    """A completion whose text can be sent and stored: a server may answer with what is no text."""
    completion = await engine.complete(prompt, params)
    # A pair of surrogates is a character, one alone is none.
    text = (
        completion.text.replace("\x00", "\ufffd")
        .encode("utf-16", "surrogatepass")
        .decode("utf-16", "replace")
    )
    return replace(completion, text=text)


def closing_tokens(n: int) -> int:
    """The most that finishing a sample of n responses takes beside its `max_tokens`."""
    return 8 * n + 8


class Sampler:
    """Takes the samples of a plan with one engine."""

    def __init__(self, engine: Engine, watch: SampleObserver | None = None) -> None:
        self.engine = engine
        self._watch = watch

    async def sample(self, planned: Plan, index: int) -> Sample:
        """Sample `index` of a plan. An engine's failure becomes the sample's error; a bad task raises."""
        params, began = planned.params(index), time.perf_counter()
        taken = Sample(index, params.seed, planned.orders[index])
        asked = tracing.asked(self.engine.name, self.engine.model, params) | {"grm.sample": index}
        with tracing.span("sample", asked, "CLIENT") as span:
            try:
                taken = await self._take(planned, taken, params)
                return taken
            except BaseException as failed:
                taken = replace(taken, error=code_of(failed))
                raise
            finally:
                span.note(tracing.taken(taken))
                if taken.error is not None:
                    span.fail(taken.error)
                if self._watch is not None:
                    self._watch.sampled(taken, time.perf_counter() - began)

    async def _take(self, planned: Plan, read: Sample, params: Params) -> Sample:
        task = planned.task
        prompt = render(
            planned.profile,
            task.messages,
            [task.responses[i] for i in read.order],
            "fixed" if task.options.principles.mode == "query" else task.options.principles.mode,
            planned.principles,
            task.reference,
            self.engine.control_tokens,
        )
        opening = planned.profile.opening if self.engine.abilities.continues else ""
        try:
            completion = await complete(self.engine, replace(prompt, continuation=opening), params)
            read = _read(planned, replace(read, text=opening + completion.text), completion)
            if read.error is not None:
                read = await self._close(planned, read, prompt, params)
            if task.options.score == "soft" and read.error is None:
                read = await self._soften(planned, read, prompt)
            return read
        except EngineError as failed:
            logger.warning("sample %d of a task failed: %s", read.index, failed)
            return replace(read, critique=None, counted=False, error=failed.code)

    async def _close(self, planned: Plan, cut: Sample, prompt: Prompt, params: Params) -> Sample:
        """Finishes a sample that ended without scores: by the profile's closing, or by asking for them."""
        n, closing = len(cut.order), planned.profile.closing
        written = parse.before_closing(cut.text)
        params = replace(params, max_tokens=closing_tokens(n))
        if self.engine.abilities.continues:
            start = written + closing.text
            params = replace(params, regex=parse.closing_regex(n, planned.profile.scale))
            prompt = replace(prompt, continuation=start)
        else:
            start = written + "\n\n"
            asked = Message("user", fill(closing.ask, {"boxed": boxed(n)}))
            answered = Message("assistant", written or "(no answer)")
            prompt = replace(prompt, messages=(*prompt.messages, answered, asked))
        try:
            completion = await complete(self.engine, prompt, params)
        except BadTask as full:  # behind what was written the context has no room left
            logger.warning("sample %d of a task was not closed: %s", cut.index, full)
            return cut
        closed = _read(planned, replace(cut, text=start + completion.text, closed=True), completion)
        return closed if closed.error is None else replace(cut, usage=closed.usage)

    async def _soften(self, planned: Plan, read: Sample, prompt: Prompt) -> Sample:
        """Adds the expected score at each place where the sample wrote one."""
        box = parse.box(read.text)
        starts = [box.start(1) + place for place in soft_scores.places(box[1])]
        try:
            asked = await asyncio.gather(
                *(
                    self._expected(planned, replace(prompt, continuation=read.text[:at]), read.seed)
                    for at in starts
                )
            )
        except BadTask as full:
            logger.warning("sample %d of a task got no soft scores: %s", read.index, full)
            return replace(read, critique=None, counted=False, error=full.code)
        means = [mean for mean, _ in asked]
        read = replace(read, usage=sum((usage for _, usage in asked), read.usage))
        shown = tuple(mean for mean in means if mean is not None)
        if len(shown) < len(means):
            return replace(read, critique=None, counted=False, error="no_score_tokens")
        return replace(read, expected=undo(read.order, shown, len(planned.task.responses)))

    async def _expected(self, planned: Plan, prompt: Prompt, seed: int) -> tuple[float | None, Usage]:
        # Some chat templates strip what ends the answer: leave the space between scores to the model.
        written, spent = prompt.continuation, Usage()
        start = written.rstrip()

        async def following(spelled: str) -> Sequence[Alternative]:
            nonlocal spent
            before = written if spelled else start
            params = Params(1 if before == written else 2, seed=seed, alternatives=soft_scores.ALTERNATIVES)
            completion = await complete(self.engine, replace(prompt, continuation=before + spelled), params)
            spent += completion.usage
            rows = [row for row in completion.alternatives if row and row[0].text.strip()]
            return rows[0] if rows else ()

        return soft_scores.expected(await soft_scores.chances(following, planned.profile.scale)), spent


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
    scores = undo(sample.order, critique.scores, len(planned.task.responses))
    return replace(sample, critique=replace(critique, scores=scores), error=None, counted=True)
