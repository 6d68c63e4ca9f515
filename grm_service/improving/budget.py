"""What an improvement may still generate, and what its parts can cost at most.

Tokens that are generated count, whoever generates them: every completion is bounded beforehand, so that the
sum holds to the token. Tokens of prompts cannot be known before a server has read them: they are reported and
not counted.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from grm_service.judging.plan import MIN_SPLIT, plan
from grm_service.judging.principle_writer import MAX_ATTEMPTS
from grm_service.judging.sampler import closing_tokens
from grm_service.profiles.profile import Profile
from grm_service.types import Task, Usage

_LEAST_DRAFT = 32
_LEAST_CRITIQUE = 64


@dataclass(frozen=True, slots=True)
class Price:
    """The most that a verdict can generate: `samples` critiques, and `fixed` tokens beside them."""

    samples: int
    fixed: int
    wanted: int
    """Tokens of a critique."""

    @classmethod
    def of(cls, task: Task, profile: Profile) -> Price:
        """Also where the responses turn out not to fit one prompt, and are judged in blocks (judge.py)."""
        plans = [plan(task, profile)]
        if len(task.responses) >= MIN_SPLIT and not plans[0].in_blocks:
            plans.append(plan(task, profile, split=True))
        closing = max(sum(closing_tokens(len(order)) for order in each.orders) for each in plans)
        written = MAX_ATTEMPTS * profile.sampling.max_tokens if task.options.principles.mode == "query" else 0
        samples = max(len(each.orders) for each in plans)
        return cls(samples, closing + written, plans[0].max_tokens)

    @property
    def least(self) -> int:
        """Below this it is not worth asking."""
        return self.fixed + self.samples * min(_LEAST_CRITIQUE, self.wanted)

    def critique(self, left: int) -> int:
        """Tokens that one critique may take, so that the verdict keeps to what is left (at least `least`)."""
        return min(self.wanted, (left - self.fixed) // self.samples)


def least_draft(max_tokens: int) -> int:
    """Tokens below which a draft is not worth asking for."""
    return min(_LEAST_DRAFT, max_tokens)


class Budget:
    """What is left. `kept` tokens are held back for the second opinion, until they are released."""

    def __init__(self, tokens: int, seconds: float, kept: int) -> None:
        self._left, self.kept = tokens, kept
        self._began = self.now
        self.deadline = self._began + seconds

    @property
    def tokens(self) -> int:
        return self._left - self.kept

    @property
    def now(self) -> float:
        """On the loop's clock, as `deadline` is."""
        return asyncio.get_running_loop().time()

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return self.now - self._began

    def spend(self, usage: Usage) -> None:
        self._left -= usage.completion_tokens

    def each(self, n: int, max_tokens: int, after: Price) -> int | None:
        """Tokens of each of n drafts, with room for their verdict; None where there is too little."""
        most = min(max_tokens, (self.tokens - after.least) // n) if n else max_tokens
        return most if most >= least_draft(max_tokens) and self.tokens >= after.least else None
