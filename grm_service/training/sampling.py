"""Sampling of trajectories with the profile's own judge, or with a stronger one (distillation)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from grm_service.concurrency import for_each
from grm_service.engines.base import Engine
from grm_service.errors import BadTask, EngineError, GRMError
from grm_service.evaluation.dataset import Item
from grm_service.evaluation.outcomes import credit
from grm_service.factory import open_service
from grm_service.failures import ENGINE_FAILURES, ITEM_FAILURES, REFUSALS
from grm_service.judging import parse
from grm_service.judging.orders import undo
from grm_service.judging.plan import Plan, plan
from grm_service.judging.principle_writer import PrincipleWriter
from grm_service.judging.prompt import TaskTexts
from grm_service.judging.sampler import Sampler
from grm_service.profiles.catalog import fingerprint, format_fingerprint
from grm_service.profiles.profile import Profile
from grm_service.serving.service import Service
from grm_service.settings import EngineName, Settings, load_settings
from grm_service.training.callbacks import TrainingCallback
from grm_service.training.hints import scores_by_label, whole_sentences, with_best, with_hint
from grm_service.training.inputs import read_items
from grm_service.training.models import world_size
from grm_service.training.rejection_sampling import select
from grm_service.training.trajectories import (
    ItemTrajectories,
    Origin,
    Trajectory,
    TrajectoryFile,
    TrajectorySetup,
)
from grm_service.types import JudgeOptions, Sample, Scores, Task

TOO_MANY_RESPONSES = "too_many_responses"
"""The error of an item whose responses do not fit one prompt of the profile."""
NO_REASON = "no_reason"
"""The error of a hinted trajectory in which the judge wrote no whole sentence for the best response."""


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """Options of sampling.

    Every item gets `samples` trajectories (1..63) in balanced orders. With `hints`, an item whose samples are
    all wrong gets one more, which is told the best response. `concurrency` items are sampled at once.
    The fields k, k_meta, stop and timeout_s of `options` are not used.
    """

    samples: int = 3
    hints: bool = True
    concurrency: int = 16
    options: JudgeOptions = JudgeOptions()


def sample_trajectories(
    config: SamplingConfig,
    *,
    data: str | Path,
    out: str | Path,
    profile: str | Path | None = None,
    engine: EngineName | None = None,
    limit: int | None = None,
    callback: TrainingCallback | None = None,
) -> list[ItemTrajectories]:
    """Sample trajectories of the items into the file `out`, and return all that it has.

    Items that are in the file already are not sampled again. `profile` and `engine` default to the GRM_*
    settings. Runs its own event loop, so call it from synchronous code. Raises GRMError.
    """
    callback = callback or TrainingCallback()
    items = read_items(data, limit, callback)
    trajectories = sample_items(
        config, items, Path(out), load_settings(profile=profile, engine=engine), callback
    )
    callback.on_trajectories_selected(select(items, trajectories, seed=config.options.seed))
    return trajectories


def sample_items(
    config: SamplingConfig, items: list[Item], out: Path, settings: Settings, callback: TrainingCallback
) -> list[ItemTrajectories]:
    """Sample the items that are not in the file yet, and return all that it has. Raises GRMError."""
    if world_size() > 1:
        raise BadTask("several processes cannot sample into one file: run grm train sample first")
    service = open_service(settings)
    return asyncio.run(_sample_with(service, config, items, out, callback))


async def _sample_with(
    service: Service, config: SamplingConfig, items: list[Item], out: Path, callback: TrainingCallback
) -> list[ItemTrajectories]:
    engine, profile = service.engine, service.profile
    try:
        callback.on_engine_loading(service)
        # The engine alone: training needs neither the audit trail nor the meta RM.
        await engine.start()
        with TrajectoryFile(out, _setup(service, config)) as file:
            callback.on_sampling_begin(len(file.remaining(items)), len(items))
            try:
                await sample_all(items, file, engine, profile, config.concurrency, callback.on_item_sampled)
            finally:
                callback.on_sampling_end()
            return list(file.done.values())
    finally:
        await service.close()


def _setup(service: Service, config: SamplingConfig) -> TrajectorySetup:
    """Return the setup of the file. Raises BadTask if the engine or catalog does not have the options."""
    options, profile, engine = config.options, service.profile, service.engine
    used = JudgeOptions(
        thinking_tokens=options.thinking_tokens, score=options.score, principles=options.principles
    )
    task, _, principles = service.validator.task(Task((), (), options=used))
    return TrajectorySetup(
        profile.name,
        format_fingerprint(profile),
        engine.name,
        engine.model,
        config.samples,
        config.hints,
        options.seed,
        fingerprint(profile),
        options.temperature,
        options.max_tokens,
        task.options.score or "hard",
        replace(options.principles, items=principles),
        options.thinking_tokens,
    )


async def sample_all(
    items: list[Item],
    file: TrajectoryFile,
    engine: Engine,
    profile: Profile,
    concurrency: int,
    on_item: Callable[[], None] = lambda: None,
) -> None:
    """Sample every item that is not in the file yet, `concurrency` at once. Raises EngineError."""
    sampler = TrajectorySampler(engine, profile, file.setup)

    async def sample(item: Item) -> None:
        file.add(await sampler.sample(item))
        on_item()

    await for_each(file.remaining(items), sample, concurrency)


class TrajectorySampler:
    """Samples the trajectories of items, with the options of a file's setup."""

    def __init__(self, engine: Engine, profile: Profile, setup: TrajectorySetup) -> None:
        self._sampler, self._writer = Sampler(engine), PrincipleWriter(engine)
        self._profile, self._setup = profile, setup

    async def sample(self, item: Item) -> ItemTrajectories:
        """Return the item's trajectories, with a hinted one if all are wrong. Raises EngineError."""
        if len(item.responses) > self._profile.most_responses:
            return ItemTrajectories.of(item, error=TOO_MANY_RESPONSES)
        try:
            planned = await self._plan(item)
            texts = await self._sampler.texts(planned)
            samples = await asyncio.gather(
                *(self._sampler.sample(planned, i, texts) for i in range(self._setup.samples))
            )
            trajectories = [self._trajectory(item, sample, "sampled") for sample in samples]
            if all(sample.error in REFUSALS for sample in samples):
                return ItemTrajectories.of(item, error=samples[0].error)
            if self._setup.hints and len(item.correct) == 1 and not any(each.right for each in trajectories):
                trajectories.append(await self._hinted(item, planned, samples[0], texts))
        except GRMError as error:
            if error.code not in ITEM_FAILURES:
                raise
            return ItemTrajectories.of(item, error=error.code)
        return ItemTrajectories.of(item, tuple(trajectories))

    async def _plan(self, item: Item) -> Plan:
        # One order more than `samples`, for the hinted one. So k is never 1, which would be greedy and return
        # the same text for every seed.
        options = self._setup.options(k=self._setup.samples + 1, seed=item.seed(self._setup.seed))
        principles = options.principles.items
        if options.principles.mode == "query":
            principles, _ = await self._writer.write(
                self._profile, item.messages, principles, options.thinking_tokens
            )
        return plan(Task(item.messages, item.responses, options=options), self._profile, principles)

    async def _hinted(self, item: Item, planned: Plan, first: Sample, texts: TaskTexts) -> Trajectory:
        """Return a trajectory that was told the best response: by the profile's comparison, or in its prompt.

        In the first case the first sample's criteria and the number of the best response are continued with
        the judge's reason; the scores are by the label, as in a form.
        """
        can_continue = self._sampler.engine.abilities.continues_after(first.thinking)
        if self._profile.comparison and can_continue and first.critique and first.critique.analysis:
            return await self._explained(item, planned, first, texts)
        index = self._setup.samples
        position = planned.orders[index].index(item.correct[0]) + 1
        planned = replace(planned, profile=with_hint(self._profile, position))
        return self._trajectory(item, await self._sampler.sample(planned, index), "hinted")

    async def _explained(self, item: Item, planned: Plan, first: Sample, texts: TaskTexts) -> Trajectory:
        order, profile = first.order, self._profile
        start = with_best(profile, first.text, order.index(item.correct[0]) + 1)
        completion = await self._sampler.continued(planned, first, start, texts)
        reason = whole_sentences(completion.text)
        text = start + reason + scores_by_label(item, order, profile)
        scores: Scores | None = None
        error: str | None = NO_REASON
        if reason:
            try:
                scores, error = undo(order, parse.parse(text, len(order), profile).scores, len(order)), None
            except parse.Unreadable as unreadable:  # such as a reason that quotes a box
                error = unreadable.reason
        right, tokens = is_right(scores, item), completion.usage.completion_tokens
        return Trajectory(order, text, scores, right, "hinted", error, tokens=tokens, thinking=first.thinking)

    def _trajectory(self, item: Item, sample: Sample, origin: Origin) -> Trajectory:
        if sample.error in ENGINE_FAILURES:
            # The judge is not wrong because its engine failed: end the run; finished items stay in the file.
            why = f"the engine failed ({sample.error}) at {item.id}; run the command again to resume"
            raise EngineError(why, sample.error_detail or "")
        right = is_right(sample.scores, item)
        if self._profile.comparison:  # what is learned is the text, and not only its probabilities
            written = None if sample.critique is None else sample.critique.scores
            right = is_right(written, item) and _names_best(sample, item, self._profile)
        return Trajectory(
            order=sample.order,
            text=sample.text,
            scores=sample.scores,
            right=right,
            origin=origin,
            error=sample.error,
            closed=sample.closed,
            tokens=sample.usage.completion_tokens,
            thinking=sample.thinking,
        )


def is_right(scores: Scores | None, item: Item) -> bool:
    """Return whether every right response scores above every wrong one; ties and missing scores are wrong."""
    if scores is None or not item.correct:
        return False
    present = [score for score in scores if score is not None]
    return len(present) == len(scores) and credit(present, item.correct).strict == 1


def _names_best(sample: Sample, item: Item, profile: Profile) -> bool:
    """Return whether a critique's comparison names a right response."""
    number = parse.named_best(sample.text, profile) or 0
    return 1 <= number <= len(sample.order) and sample.order[number - 1] in item.correct
