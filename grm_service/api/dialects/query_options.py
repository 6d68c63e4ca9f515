"""What such a client wants of the judge: it can say so in the URL only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Query
from pydantic import ConfigDict, Field

from grm_service.api.judge_options import JudgeOptionFields
from grm_service.api.shaping import LengthPenalty, Shaped, Shaping, Transform, shape
from grm_service.audit.records import Record
from grm_service.errors import SiblingsMissing
from grm_service.profiles.profile import Scale
from grm_service.types import Message, PrincipleMode, PrincipleSpec, Priority, Task


class QueryOptions(JudgeOptionFields):
    """Query parameters of every dialect; what is not named here is refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    profile: str | None = Field(None, max_length=200)
    principles: str | None = Field(None, max_length=200, description="A named set.")
    mode: PrincipleMode = Field(
        "self", description="Where principles come from; with a set: what stands above."
    )
    priority: Priority = "train"
    group: int | None = Field(None, ge=1, le=64, description="Responses sampled for each prompt.")
    window_s: float | None = Field(
        None,
        ge=0,
        le=3600,
        description="How long one waits for its siblings; 0: judged alone. Default: GRM_GROUP_WINDOW_S.",
    )
    transform: Transform = "none"
    free_chars: int = Field(0, ge=0, description="With per_1000: characters that cost nothing.")
    per_1000: float = Field(
        0, ge=0, le=100, description="Reward taken away for each further 1,000 characters."
    )
    most_penalty: float = Field(10, ge=0, le=100, description="At most so much.")
    fallback: float | None = Field(
        None, description="Answered in place of a reward that nobody gave, and counted; default: an error."
    )

    def over(self, usual: QueryOptions) -> QueryOptions:
        """This wish, and the usual one where it says nothing."""
        said = self.model_dump(include=set(QueryOptions.model_fields), exclude_unset=True)
        return usual.model_copy(update=said)

    def task(
        self,
        messages: tuple[Message, ...],
        responses: tuple[str, ...],
        reference: str | None,
        timeout_s: float | None,
    ) -> Task:
        """The task; `timeout_s` is the dialect's own, which the wish can shorten."""
        limits = [limit for limit in (self.timeout_s, timeout_s) if limit is not None]
        options = self.to_options(PrincipleSpec(self.mode, self.principles))
        return Task(
            messages=messages,
            responses=responses,
            profile=self.profile,
            reference=reference,
            options=replace(options, timeout_s=min(limits, default=None)),
        )

    def shaped(
        self, record: Record, scale: Scale, samples: Sequence[int], transform: Transform | None = None
    ) -> Shaped:
        """The rewards of `samples`, each by its response's place in the verdict, as the wish has them, or as
        `transform` has where it says nothing.

        Raises SiblingsMissing where a group is needed and there is none.
        """
        penalty = LengthPenalty(self.free_chars, self.per_1000, self.most_penalty) if self.per_1000 else None
        wanted = self.transform if transform is None or self.transform != "none" else transform
        try:
            rewards = [record.verdict.vote.rewards[place] for place in samples]
            texts = [record.task.responses[place] for place in samples]
            return shape(rewards, texts, scale, Shaping(wanted, penalty))
        except ValueError as wrong:
            raise SiblingsMissing(f"{wrong}: its siblings did not come within window_s") from None


Wished = Annotated[QueryOptions, Query()]
USUAL = QueryOptions.model_validate({})


def usual(options: str) -> QueryOptions:
    """A wish written as in a URL, `k=4&group=16`. Raises ValidationError."""
    return QueryOptions.model_validate(dict(parse_qsl(options, keep_blank_values=True)))
