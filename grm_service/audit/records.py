"""What the audit trail stores: verdicts with all that is needed to judge again, and people's reviews."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from grm_service.types import Principle, Task, Verdict

Decision = Literal["agree", "overrule", "unsound_principle"]
Reason = Literal[
    "tie",
    "low_agreement",
    "high_spread",
    "unreadable",
    "votes_apart",
    "flagged_principle",
    "probes_failed",
]


@dataclass(frozen=True, slots=True)
class Record:
    """A verdict with its name, its time and all that is needed to judge again: what the audit trail keeps.

    `standard` are the principles that people gave, as they stood then, and `constitution` their fingerprint.
    `queue_s`: seconds before judging. `reasons`: why a person should look at it, `worth` how much (0: not).
    `replayed`: given before to the same request, and given again.
    """

    id: str
    created: datetime
    task: Task
    standard: tuple[Principle, ...]
    constitution: str | None
    verdict: Verdict
    queue_s: float
    caller: str = ""
    route: str = ""
    engine: str = ""
    version: str = ""
    reasons: tuple[Reason, ...] = ()
    worth: float = 0.0
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Review:
    """What a person says of a verdict, which stays as it is.

    "overrule" comes with the right `ranking` (1 for the best, equal numbers for ties) or the right `scores`,
    one a response; "unsound_principle" with the `principle` that nobody should judge by.
    """

    id: str
    verdict: str
    created: datetime
    caller: str
    reviewer: str
    decision: Decision
    ranking: tuple[int, ...] | None = None
    scores: tuple[float, ...] | None = None
    principle: str | None = None
    note: str = ""
