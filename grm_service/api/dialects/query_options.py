"""The judge options in the URL, for clients whose request body is fixed by their framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import Query
from pydantic import Field

from grm_service.api.judge_options import JudgeQueryOptions
from grm_service.api.shaping import LengthPenalty, Shaped, Shaping, Transform, shape
from grm_service.audit.records import Record
from grm_service.callers import Priority
from grm_service.errors import JudgeError
from grm_service.profiles.profile import Scale
from grm_service.types import Message, Task


class SiblingsMissing(JudgeError):
    """A group transform was requested, and no other response of the group arrived in time."""

    code = "siblings_missing"


class QueryOptions(JudgeQueryOptions):
    """Query parameters of every dialect; unknown ones are refused."""

    profile: str | None = Field(
        None, max_length=200, description="Name of the profile to judge with. Default: the server's."
    )
    priority: Priority = Field("train", description="Priority in the queue: 'train' is served before 'eval'.")
    group: int | None = Field(None, ge=1, le=64, description="Responses sampled for each prompt.")
    window_s: float | None = Field(
        None,
        ge=0,
        le=3600,
        description="Seconds to wait for the other responses; 0: judged alone. Default: GRM_GROUP_WINDOW_S.",
    )
    transform: Transform = Field(
        "none",
        description="'minmax' maps the scale to 0..1; 'zscore', 'rank' (1 best, 0 last) and 'centered' are "
        "relative to the group.",
    )
    free_chars: int = Field(0, ge=0, description="With per_1000: characters without a penalty.")
    per_1000: float = Field(
        0, ge=0, le=100, description="Penalty for every 1,000 characters beyond free_chars."
    )
    most_penalty: float = Field(10, ge=0, le=100, description="Upper bound of the penalty.")
    fallback: float | None = Field(
        None, description="Reward to return instead of a retryable error; it is counted. Default: the error."
    )

    def with_defaults(self, defaults: QueryOptions) -> QueryOptions:
        """Return these options, with `defaults` for those that the request does not set."""
        own = self.model_dump(include=set(QueryOptions.model_fields), exclude_unset=True)
        return defaults.model_copy(update=own)

    def task(
        self,
        messages: tuple[Message, ...],
        responses: tuple[str, ...],
        reference: str | None,
        timeout_s: float | None,
    ) -> Task:
        """Return the task of a request; `timeout_s` is the dialect's limit, which the options can shorten."""
        limits = [limit for limit in (self.timeout_s, timeout_s) if limit is not None]
        return Task(
            messages=messages,
            responses=responses,
            profile=self.profile,
            reference=reference,
            options=replace(self.judge_options, timeout_s=min(limits, default=None)),
        )

    def shaped(
        self, record: Record, scale: Scale, places: Sequence[int], transform: Transform | None = None
    ) -> Shaped:
        """Return shaped rewards for responses, which `places` names by their index in the verdict.

        `transform` applies if the options name none. Raises SiblingsMissing if the transform compares the
        responses of a group and there is only one.
        """
        penalty = LengthPenalty(self.free_chars, self.per_1000, self.most_penalty) if self.per_1000 else None
        chosen = self.transform if transform is None or self.transform != "none" else transform
        try:
            rewards = [record.verdict.vote.rewards[place] for place in places]
            texts = [record.task.responses[place] for place in places]
            return shape(rewards, texts, scale, Shaping(chosen, penalty))
        except ValueError as error:
            raise SiblingsMissing(
                f"{error}: the others of its group did not arrive within window_s"
            ) from None


QueryOptionsParam = Annotated[QueryOptions, Query()]
DEFAULTS = QueryOptions.model_validate({})
