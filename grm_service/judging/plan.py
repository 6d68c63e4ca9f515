"""What is decided before the first sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

from grm_service.errors import BadTask
from grm_service.judging.block_design import blocks, order_of
from grm_service.judging.orders import orders, sample_seed
from grm_service.profiles.profile import Profile
from grm_service.types import Params, Principle, Task

LEAST_SPLIT = 3
"""Fewer responses are never split over several prompts."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A task with all that is decided before the first sample; the same task always plans the same.

    `orders` has one a sample. With `in_blocks` each holds some of the responses (core/blocks.py). The meta RM
    keeps `k_meta` of the samples in the vote; 0 is without one.
    """

    task: Task
    profile: Profile
    principles: tuple[Principle, ...]
    orders: tuple[tuple[int, ...], ...]
    temperature: float
    max_tokens: int
    in_blocks: bool = False
    k_meta: int = 0

    def params(self, index: int) -> Params:
        return Params(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.profile.sampling.top_p,
            seed=sample_seed(self.task.options.seed, index),
        )


def plan(
    task: Task, profile: Profile, principles: tuple[Principle, ...] = (), split: bool | None = None
) -> Plan:
    """Fills what the task leaves open from the profile; one sample is greedy (paper, section 4.1).

    Responses are split over several prompts where they are more than the profile takes, or on request; then k
    are rounds of samples. Raises BadTask where they are too many even so.
    """
    n, k = len(task.responses), task.options.k or profile.sampling.k
    in_blocks = n > profile.most_responses if split is None else split
    if in_blocks and order_of(n) > profile.most_responses:
        raise BadTask(
            f"profile {profile.name!r} takes {profile.most_responses} responses in one prompt, too few to "
            f"compare {n}: at least {order_of(n)} are needed (most_responses)"
        )
    drawn = blocks(n, k, task.options.seed) if in_blocks else orders(n, k, task.options.seed)
    temperature = 0.0 if k == 1 else profile.sampling.temperature
    return Plan(
        task=task,
        profile=profile,
        principles=principles,
        orders=drawn,
        temperature=temperature if task.options.temperature is None else task.options.temperature,
        max_tokens=task.options.max_tokens or profile.sampling.max_tokens,
        in_blocks=in_blocks,
        k_meta=math.ceil(len(drawn) * (task.options.k_meta or 0) / k),
    )
