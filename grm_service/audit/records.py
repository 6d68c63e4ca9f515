"""The records of the audit trail: verdicts, with everything needed to replay them, and reviews."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from grm_service.errors import AuditBroken
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
    """A verdict as the audit trail stores it, with its id, its time and everything needed to replay it.

    `standard` are the caller's principles as they were at that time, `constitution` their fingerprint.
    `queue_s` is the time in the queue in seconds. `reasons` say why a person should review the verdict, and
    `worth` is its priority in the review queue (0: not queued). `replayed` is true if an earlier identical
    request got this verdict.
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
    """A person's review of a verdict; the verdict itself never changes.

    "overrule" comes with the correct `ranking` (1 for the best, equal numbers for ties) or the correct
    `scores`, one per response; "unsound_principle" comes with the `principle` that is not fit to judge by.
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


@contextmanager
def as_written() -> Iterator[None]:
    """Turn the errors of reading what no service wrote into AuditBroken."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise AuditBroken(
            "a record of the audit trail is not as its service wrote it: run `grm audit verify`"
        ) from None
