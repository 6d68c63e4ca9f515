"""One sample: order -> render -> complete -> parse, then closing and soft scores.

Serving, evaluation and training all take their samples here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from grm_service import tracing
from grm_service.concurrency import off_the_loop
from grm_service.engines.base import THINKING_TOKENS, Engine
from grm_service.errors import BadTask, EngineError, SoftNotServed, UpstreamRefused, code_of
from grm_service.judging import parse, soft_scores
from grm_service.judging.completion import complete, with_thinking_room, without_thinking
from grm_service.judging.orders import undo
from grm_service.judging.plan import Plan
from grm_service.judging.prompt import TaskTexts, boxed, render_order, task_texts
from grm_service.profiles.profile import Scale, fill
from grm_service.thinking import joined
from grm_service.types import Alternative, Completion, Message, Params, Prompt, Sample, Usage

logger = logging.getLogger(__name__)
CUT_IN_THINKING = "cut_in_thinking"
"""The error of a sample that reached its limit before it began its answer."""
NO_SCORE_TOKENS = "no_score_tokens"
"""The soft error of a sample at whose scores, or comparison, no number is likely."""
Expected = tuple[tuple[float, ...] | None, Usage]
"""Soft scores in the order of the prompt, None if they cannot be read, and the tokens used."""


class SampleObserver(Protocol):
    """Receives the cost of generation."""

    def sampled(self, sample: Sample, seconds: float) -> None:
        """Receive a sample that has ended; one that was cut off has the reason as its error."""

    def spent(self, usage: Usage) -> None:
        """Receive tokens that belong to no sample."""


def closing_tokens(n: int) -> int:
    """Return the most tokens that closing a sample of n responses adds to its `max_tokens`."""
    return 8 * n + 8


class Sampler:
    """Runs the samples of a plan on one engine."""

    def __init__(self, engine: Engine, observer: SampleObserver | None = None) -> None:
        self.engine = engine
        self._observer = observer
        self._turns = asyncio.Lock()

    async def texts(self, planned: Plan) -> TaskTexts:
        """Return the neutralised texts of the plan's prompts."""
        task = planned.task
        return await off_the_loop(
            planned.chars,
            task_texts,
            planned.profile,
            task.messages,
            task.responses,
            planned.principles,
            task.reference,
            self.engine.control_tokens,
        )

    async def sample(self, planned: Plan, index: int, texts: TaskTexts | None = None) -> Sample:
        """Return sample `index` of a plan; several samples share the `texts` that `texts` returns.

        If the engine fails, the failure is the sample's error. Raises BadTask, such as PromptTooLong.
        """
        params, began = planned.params(index), time.perf_counter()
        sample = Sample(index, params.seed, planned.orders[index])
        attributes = tracing.request_attributes(self.engine.name, self.engine.model, params) | {
            "grm.sample": index
        }
        with tracing.span("sample", attributes, "CLIENT") as span:
            try:
                sample = await self._run(planned, sample, params, texts or await self.texts(planned))
                return sample
            except BaseException as failed:
                sample = replace(sample, error=code_of(failed))
                raise
            finally:
                span.note(tracing.sample_attributes(sample))
                if sample.error is not None:
                    span.fail(sample.error)
                if self._observer is not None:
                    self._observer.sampled(sample, time.perf_counter() - began)

    async def continued(self, planned: Plan, sample: Sample, start: str, texts: TaskTexts) -> Completion:
        """Return what the judge writes after `start`, as this sample. Raises BadTask, EngineError."""
        prompt = replace(_prompt(planned, sample, texts), continuation=start, thinking=sample.thinking)
        return await self._complete(planned, prompt, planned.params(sample.index))

    async def _run(self, planned: Plan, sample: Sample, params: Params, texts: TaskTexts) -> Sample:
        await self._turn()
        prompt = _prompt(planned, sample, texts)
        opening = planned.profile.opening if self.engine.abilities.continues else ""
        begun, regex = replace(prompt, continuation=opening), None
        if self.engine.thinking.thinks is None:  # thinking would have to match it, too
            regex = parse.critique_regex(len(sample.order), planned.profile)
        try:
            completion = await self._complete(planned, begun, replace(params, regex=regex))
            sample = replace(sample, text=opening + completion.text, thinking=completion.thinking)
            sample = await _parsed(planned, sample, completion)
            if sample.error is not None:
                sample = await self._close(planned, sample, prompt, params)
        except EngineError as failed:
            logger.warning("sample %d of a task failed: %s", sample.index, failed.message)
            return replace(sample, error=failed.code, error_detail=str(failed))
        if planned.task.options.score == "soft" and sample.error is None:
            sample = await self._add_soft_scores(planned, sample, prompt)
        return sample

    async def _turn(self) -> None:
        """Wait for a turn of the event loop of one's own; many small steps in one would hold it for long."""
        async with self._turns:
            await asyncio.sleep(0)

    async def _complete(self, planned: Plan, prompt: Prompt, params: Params) -> Completion:
        return await complete(self.engine, prompt, params, planned.profile.thinking)

    def _continues(self, sample: Sample) -> bool:
        """Return whether the engine can continue what the sample has written, thinking included."""
        return self.engine.abilities.continues_after(sample.thinking)

    async def _close(self, planned: Plan, sample: Sample, prompt: Prompt, params: Params) -> Sample:
        """Return the sample finished by the profile's closing; unchanged if it still has no scores.

        Thinking that was cut off is ended first. If the engine cannot continue, it is asked for the scores.
        """
        n, text = len(sample.order), sample.text
        written = await off_the_loop(len(text), parse.before_closing, text, planned.profile)
        params = replace(params, max_tokens=closing_tokens(n))
        if self._continues(sample):
            start = written + planned.profile.closing.text
            best = parse.named_best(written, planned.profile)
            regex = parse.closing_regex(n, planned.profile.scale, best)
            begun = replace(prompt, continuation=start, thinking=sample.thinking)
            try:
                return await self._finish(planned, sample, start, begun, replace(params, regex=regex))
            except UpstreamRefused as refused:  # such as a chat template that removes thinking
                sample = _refused(sample, refused)
        start = written + "\n\n" if written else ""
        question = _ask_for_scores(planned, sample, prompt, written)
        try:
            return await self._finish(planned, sample, start, question, self._to_ask(planned, sample, params))
        except UpstreamRefused as refused:  # such as a chat template for a single turn
            return _refused(sample, refused)

    def _to_ask(self, planned: Plan, sample: Sample, params: Params) -> Params:
        """Return the parameters of the question for the scores: without thinking, or with room for it."""
        settings = planned.profile.thinking
        if off := without_thinking(self.engine, params, settings):
            # The profile's fields may only shorten the thinking: gpt-oss cannot but think.
            room = 0 if self.engine.thinking.can_disable else THINKING_TOKENS // 4
            return replace(off, max_tokens=off.max_tokens + room)
        has_thought = sample.thinking is not None or not sample.text.strip()
        return with_thinking_room(self.engine, params, settings) if has_thought else params

    async def _finish(
        self, planned: Plan, sample: Sample, start: str, prompt: Prompt, params: Params
    ) -> Sample:
        """Return the sample with `start` and what the engine adds; unchanged if it still has no scores."""
        try:
            completion = await self._complete(planned, prompt, params)
        except BadTask as full:  # the context has no room left after the completion
            logger.warning("sample %d of a task was not closed: %s", sample.index, full.message)
            return sample
        finished = replace(
            sample,
            text=start + completion.text,
            thinking=joined(sample.thinking, completion.thinking),
            closed=True,
            closed_reason=sample.error,
        )
        closed = await _parsed(planned, finished, completion)
        return closed if closed.error is None else replace(sample, usage=closed.usage)

    async def _add_soft_scores(self, planned: Plan, sample: Sample, prompt: Prompt) -> Sample:
        """Return the sample with expected scores: from its comparison, or where it wrote its scores.

        If there are none, `soft_error` is the reason, and the written scores remain.
        """
        if not self._continues(sample):
            return replace(sample, soft_error=SoftNotServed.code)
        prompt = replace(prompt, thinking=sample.thinking)
        compares = planned.profile.compares(len(sample.order))
        try:
            read = self._compared if compares else self._scored
            expected, usage = await read(planned, sample, prompt)
        except (BadTask, EngineError) as failed:
            logger.warning("sample %d of a task has no soft scores: %s", sample.index, failed.message)
            return replace(sample, soft_error=failed.code)
        sample = replace(sample, usage=sample.usage + usage)
        if expected is None:
            return replace(sample, soft_error=NO_SCORE_TOKENS)
        return replace(sample, expected=undo(sample.order, expected, len(planned.task.responses)))

    async def _scored(self, planned: Plan, sample: Sample, prompt: Prompt) -> Expected:
        """Return the expected score at each position where the sample wrote a score."""
        box = parse.find_box(sample.text, planned.profile)
        starts = [box.start(1) + offset for offset in soft_scores.score_offsets(box[1])]
        scale = planned.profile.scale
        results = await asyncio.gather(
            *(
                self._probabilities(planned, sample, replace(prompt, continuation=sample.text[:at]), scale)
                for at in starts
            )
        )
        means = [soft_scores.expected_score(probabilities) for probabilities, _ in results]
        scores = tuple(mean for mean in means if mean is not None)
        usage = sum((usage for _, usage in results), Usage())
        return scores if len(scores) == len(means) else None, usage

    async def _compared(self, planned: Plan, sample: Sample, prompt: Prompt) -> Expected:
        """Return the probabilities that the sample names each response as the best, on the scale."""
        start = parse.before_analysis(sample.text, planned.profile) + planned.profile.before_best
        numbers = Scale(1, len(sample.order))
        probabilities, usage = await self._probabilities(
            planned, sample, replace(prompt, continuation=start), numbers
        )
        return soft_scores.on_scale(list(probabilities.values()), planned.profile.scale), usage

    async def _probabilities(
        self, planned: Plan, sample: Sample, prompt: Prompt, numbers: Scale
    ) -> tuple[dict[str, float], Usage]:
        """Return the probability of each number after the prompt's continuation, and the tokens used."""
        # Some chat templates strip trailing space: leave the space between scores to the model.
        await self._turn()
        written, usage = prompt.continuation, Usage()
        start = written.rstrip()

        async def next_tokens(digits: str) -> Sequence[Alternative]:
            nonlocal usage
            before = written if digits else start
            params = replace(
                planned.params(sample.index),
                max_tokens=1 if before == written else 2,
                temperature=0.0,
                top_p=1.0,
                alternatives=soft_scores.ALTERNATIVES,
            )
            completion = await self._complete(planned, replace(prompt, continuation=before + digits), params)
            usage += completion.usage
            rows = [row for row in completion.alternatives if row and row[0].text.strip()]
            return rows[0] if rows else ()

        return await soft_scores.score_probabilities(next_tokens, numbers), usage


def _prompt(planned: Plan, sample: Sample, texts: TaskTexts) -> Prompt:
    mode = planned.task.options.principles.mode
    return render_order(planned.profile, texts, sample.order, "fixed" if mode == "query" else mode)


def _refused(sample: Sample, refused: UpstreamRefused) -> Sample:
    """Return a sample that a server refused to close. Raises refusals of a content filter, and of a key."""
    if type(refused) is not UpstreamRefused:
        raise refused
    logger.warning("sample %d of a task was not closed: %s", sample.index, refused.message)
    return replace(sample, error_detail=str(refused))


async def _parsed(planned: Plan, sample: Sample, completion: Completion) -> Sample:
    """Return the sample with its critique, or with the reason why it has none."""
    sample = replace(
        sample,
        usage=sample.usage + completion.usage,
        finish_reason=sample.finish_reason or completion.finish_reason,
    )
    if completion.is_cut_in_thinking:
        return replace(sample, error=CUT_IN_THINKING)
    try:
        n, text = len(sample.order), sample.text
        critique = await off_the_loop(len(text), parse.parse, text, n, planned.profile)
    except parse.Unreadable as unreadable:
        return replace(sample, error=unreadable.reason)
    scores = undo(sample.order, critique.scores, len(planned.task.responses))
    return replace(
        sample, critique=replace(critique, scores=scores), error=None, error_detail=None, counted=True
    )


def _ask_for_scores(planned: Plan, sample: Sample, prompt: Prompt, written: str) -> Prompt:
    """Return the prompt with the sample's answer, or what it thought, and the request for the scores."""
    thought = sample.thinking.text if sample.thinking is not None else ""
    closing = fill(planned.profile.closing.ask, {"boxed": boxed(len(sample.order))})
    answer = Message("assistant", written or thought or "(no answer)")
    return replace(prompt, messages=(*prompt.messages, answer, Message("user", closing)))
