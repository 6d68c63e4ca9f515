"""Trajectories from an engine: the judge's own, or a stronger one's (distillation), sampled as it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

from grm_service.concurrency import for_each
from grm_service.engines.base import Engine
from grm_service.errors import EngineError, EngineNotReady, EngineUnreachable, PromptTooLong
from grm_service.evaluation.dataset import Item
from grm_service.evaluation.outcomes import credit
from grm_service.judging.plan import plan
from grm_service.judging.sampler import Sampler
from grm_service.profiles.profile import Profile
from grm_service.training.trajectories import ItemTrajectories, Origin, Trajectory, TrajectoryFile
from grm_service.types import JudgeOptions, Sample, Scores, Task

TOO_MANY = "too_many_responses"
"""The error of an item whose responses do not fit one prompt of the profile."""
_FAILED = {failed.code for failed in (EngineError, EngineUnreachable, EngineNotReady)}


async def sample_all(
    items: Iterable[Item],
    file: TrajectoryFile,
    engine: Engine,
    profile: Profile,
    at_once: int,
    on_done: Callable[[], None] = lambda: None,
) -> None:
    """Tries every item that is not in the file yet, so many at once. Raises EngineError."""
    sampler = TrajectorySampler(engine, profile, file)

    async def take(item: Item) -> None:
        file.add(await sampler.take(item))
        on_done()

    await for_each(file.left(list(items)), take, at_once)


class TrajectorySampler:
    """Tries items as the file's setup says."""

    def __init__(self, engine: Engine, profile: Profile, file: TrajectoryFile) -> None:
        self._sampler, self._profile, self._setup = Sampler(engine), profile, file.setup

    async def take(self, item: Item) -> ItemTrajectories:
        """The item's trajectories, and a hinted one where all are wrong. Raises EngineError.

        A single one is warm too: greedy it would be the same however often it is asked for.
        """
        n, samples = len(item.responses), self._setup.samples
        if n > self._profile.most_responses:
            return ItemTrajectories.of(item, error=TOO_MANY)
        # One more than are asked for: the next of the balanced orders is the hinted one's.
        task = Task(
            item.messages,
            item.responses,
            options=JudgeOptions(k=samples + 1, seed=item.seed(self._setup.seed)),
        )
        planned = plan(task, self._profile)
        try:
            taken = await asyncio.gather(*(self._sampler.sample(planned, i) for i in range(samples)))
            found = [_trajectory(item, sample, "sampled") for sample in taken]
            if self._setup.hints and len(item.correct) == 1 and not any(each.right for each in found):
                told = hinted(self._profile, planned.orders[samples].index(item.correct[0]) + 1)
                sample = await self._sampler.sample(replace(planned, profile=told), samples)
                found.append(_trajectory(item, sample, "hinted"))
        except PromptTooLong as wrong:
            return ItemTrajectories.of(item, error=wrong.code)
        return ItemTrajectories.of(item, tuple(found))


def hinted(profile: Profile, best: int) -> Profile:
    """The profile with the best response told at the end of the input, as it is numbered there."""
    judge = f"{profile.prompt.judge.rstrip()}\n\nThe best response is: Response {best}\n"
    return replace(profile, prompt=replace(profile.prompt, judge=judge))


def right(scores: Scores | None, item: Item) -> bool:
    """The outcome, strictly: a tie with the best is wrong, and so is what cannot be read."""
    if scores is None or not item.correct:
        return False
    shown = [score for score in scores if score is not None]
    return len(shown) == len(scores) and credit(shown, item.correct).strict == 1


def _trajectory(item: Item, sample: Sample, origin: Origin) -> Trajectory:
    if sample.error in _FAILED:
        # It says nothing about the judge, so it must not count as wrong; what is in the file stays.
        raise EngineError(f"the engine failed ({sample.error}) at {item.id}; run it again to go on")
    return Trajectory(
        order=sample.order,
        text=sample.text,
        scores=sample.scores,
        right=right(sample.scores, item),
        origin=origin,
        error=sample.error,
        closed=sample.closed,
        tokens=sample.usage.completion_tokens,
    )
