"""The values that say who sent a request: the owner of an API key, and the request's route and priority."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Priority = Literal["train", "eval"]


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of an API key.

    `weight` is the share of the engine that this caller gets while several wait, `most` the largest number of
    its requests at once (None: no limit). An `auditor` sees everybody's verdicts, others only their own.
    """

    name: str = ""
    weight: float = 1.0
    most: int | None = None
    auditor: bool = False


NOBODY = Caller(auditor=True)
"""The caller of a server without API keys."""


@dataclass(frozen=True, slots=True)
class Requester:
    """The caller, its route and priority, and its Idempotency-Key if it sent one.

    `admitted`: it is a step of a request that counts among the caller's already. A `synthetic` request tests
    the judge (a probe): its verdict is neither queued for review nor counted in the metrics' distributions.
    """

    caller: Caller = NOBODY
    route: str = "rewards"
    priority: Priority = "train"
    key: str | None = None
    synthetic: bool = False
    admitted: bool = False
