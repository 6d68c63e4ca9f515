"""What is decided before the first sample."""

from __future__ import annotations

from dataclasses import dataclass

from grm_service.core.order import orders, sample_seed
from grm_service.core.profile import Profile
from grm_service.types import Params, Principle, Task


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
