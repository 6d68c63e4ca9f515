"""The plan of a task: everything that is decided before the first sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

from grm_service.errors import BadTask
from grm_service.judging.block_design import balanced_blocks, plane_order
from grm_service.judging.orders import balanced_orders, sample_seed
from grm_service.lengths import principles_chars, task_chars
from grm_service.profiles.profile import Profile
from grm_service.types import Params, Principle, Task

MIN_SPLIT = 3
"""Groups of fewer responses are never split over several prompts."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A task with its orders, seeds and sampling parameters; the same task always has the same plan.

    `orders` has one order per sample; if `in_blocks`, each covers only some responses (block_design.py).
    `k_meta` is how many samples the meta RM leaves in the vote; 0 means that there is no meta RM.
    """

    task: Task
    profile: Profile
    principles: tuple[Principle, ...]
    orders: tuple[tuple[int, ...], ...]
    temperature: float
    max_tokens: int
    in_blocks: bool = False
    k_meta: int = 0
    thinking_tokens: int | None = None

    @property
    def k(self) -> int:
        """The samples per response that were requested; in blocks, one takes several prompts."""
        return self.task.options.k or self.profile.sampling.k

    @property
    def chars(self) -> int:
        """The characters of the texts that its prompts repeat."""
        return task_chars(self.task) + principles_chars(self.principles)

    def params(self, index: int) -> Params:
        """Return the sampling parameters of sample `index`."""
        return Params(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.profile.sampling.top_p,
            seed=sample_seed(self.task.options.seed, index),
            thinking_tokens=self.thinking_tokens,
            request_fields=self.profile.thinking.request_fields(self.thinking_tokens),
        )


def prompts_of(task: Task, profile: Profile) -> int:
    """Return the most prompts that the samples of a task need, split or not: each repeats its query."""
    n, k = len(task.responses), task.options.k or profile.sampling.k
    return k * plane_order(n) if n >= MIN_SPLIT else k


def plan(
    task: Task, profile: Profile, principles: tuple[Principle, ...] = (), split: bool | None = None
) -> Plan:
    """Return the plan of a task, with the profile's defaults; a single sample is greedy (SPCT, section 4.1).

    Responses are split over several prompts if there are more than the profile allows in one, or if `split`
    says so; k then counts rounds of samples. Raises BadTask if there are too many even then.
    """
    n, k = len(task.responses), task.options.k or profile.sampling.k
    in_blocks = n > profile.most_responses if split is None else split
    if in_blocks and plane_order(n) > profile.most_responses:
        raise BadTask(
            f"profile {profile.name!r} takes {profile.most_responses} responses in one prompt, too few to "
            f"compare {n}: at least {plane_order(n)} are needed (most_responses)"
        )
    draw = balanced_blocks if in_blocks else balanced_orders
    orders = draw(n, k, task.options.seed)
    temperature = 0.0 if k == 1 else profile.sampling.temperature
    return Plan(
        task=task,
        profile=profile,
        principles=principles,
        orders=orders,
        temperature=temperature if task.options.temperature is None else task.options.temperature,
        max_tokens=task.options.max_tokens or profile.sampling.max_tokens,
        in_blocks=in_blocks,
        thinking_tokens=profile.thinking.limit(task.options.thinking_tokens),
        k_meta=math.ceil(len(orders) * (task.options.k_meta or 0) / k),
    )
