"""The token and time budget of an improvement, and upper bounds on what a verdict can generate.

Only generated tokens count, those of policy, judge and second opinion alike. Every completion gets a token
limit beforehand, so the total never exceeds the budget. Thinking has a limit of its own, and prompt tokens
are unknown until a server has tokenized the prompt: both are reported but not counted.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from grm_service.judging.plan import MIN_SPLIT, plan
from grm_service.judging.principle_writer import MAX_ATTEMPTS
from grm_service.judging.sampler import closing_tokens
from grm_service.judging.soft_scores import ALTERNATIVES
from grm_service.profiles.profile import Profile, Scale
from grm_service.types import Task, Usage

_MIN_DRAFT = 32
_MIN_CRITIQUE = 64


@dataclass(frozen=True, slots=True)
class VerdictBound:
    """Upper bound on the tokens of one verdict: `samples` critiques, and `fixed` tokens besides.

    `critique_tokens` is the limit of a critique without a budget.
    """

    samples: int
    fixed: int
    critique_tokens: int

    @classmethod
    def of(cls, task: Task, profile: Profile) -> VerdictBound:
        """Return the bound for a task, including the case that its responses do not fit into one prompt.

        The judge then splits them into blocks, which can take more samples.
        """
        plans = [plan(task, profile)]
        if len(task.responses) >= MIN_SPLIT and not plans[0].in_blocks:
            plans.append(plan(task, profile, split=True))
        fixed = max(sum(_fixed_tokens(task, profile, len(order)) for order in each.orders) for each in plans)
        if task.options.principles.mode == "query":
            fixed += MAX_ATTEMPTS * profile.sampling.max_tokens
        samples = max(len(each.orders) for each in plans)
        return cls(samples, fixed, plans[0].max_tokens)

    @property
    def minimum(self) -> int:
        """The smallest budget with which a verdict is worth requesting."""
        return self.fixed + self.samples * min(_MIN_CRITIQUE, self.critique_tokens)

    def critique_limit(self, remaining: int) -> int:
        """Return the token limit of each critique within the `remaining` tokens (at least `minimum`)."""
        return min(self.critique_tokens, (remaining - self.fixed) // self.samples)

    def most(self, remaining: int) -> int:
        """Return the most tokens of the verdict within the `remaining` tokens."""
        return self.fixed + self.samples * self.critique_limit(remaining)


def _fixed_tokens(task: Task, profile: Profile, n: int) -> int:
    """Return the most tokens that a sample of n responses takes besides its critique."""
    soft = (task.options.score or profile.sampling.score) == "soft"
    return closing_tokens(n) + (n * _soft_score_tokens(profile.scale) if soft else 0)


def _soft_score_tokens(scale: Scale) -> int:
    """Return the most tokens that one soft score takes (soft_scores.py)."""
    numbers = [str(x) for x in range(scale.min, scale.max + 1)]
    prefixes = {number[:end] for number in numbers for end in range(1, len(number))}
    # Any of the likeliest tokens may begin a longer number: "1" then takes one more token for "10".
    longest = max((sum(each.startswith(first) for each in prefixes) for first in prefixes), default=0)
    return 2 + ALTERNATIVES * longest


def min_draft_tokens(max_tokens: int) -> int:
    """Return the smallest token limit with which a draft is worth requesting."""
    return min(_MIN_DRAFT, max_tokens)


class Budget:
    """The remaining tokens and time; `reserved` tokens are held back for the second opinion."""

    def __init__(self, tokens: int, seconds: float, reserved: int) -> None:
        self._remaining, self.reserved = tokens, reserved
        self._started = self.now
        self.deadline = self._started + seconds

    @property
    def tokens(self) -> int:
        """The tokens that may still be generated, without the reserved ones."""
        return self._remaining - self.reserved

    @property
    def now(self) -> float:
        """The time on the event loop's clock, as `deadline` is."""
        return asyncio.get_running_loop().time()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.now - self._started

    def spend(self, usage: Usage, at_most: int) -> None:
        """Subtract the generated tokens, `at_most` if they are unknown; what exceeds it is thinking."""
        used = usage.completion_tokens
        self._remaining -= at_most if used is None else min(used, at_most)

    def draft_limit(self, n: int, max_tokens: int, verdict: VerdictBound) -> int | None:
        """Return the token limit of each of n drafts that leaves room for their verdict.

        None if the remaining tokens are too few.
        """
        limit = min(max_tokens, (self.tokens - verdict.minimum) // n) if n else max_tokens
        return limit if limit >= min_draft_tokens(max_tokens) and self.tokens >= verdict.minimum else None
