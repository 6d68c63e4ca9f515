"""The interface through which improving uses the judge's service."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol

from grm_service.audit.records import Record
from grm_service.callers import Requester
from grm_service.engines.base import Engine
from grm_service.profiles.profile import Profile
from grm_service.types import Task, Usage


class JudgeService(Protocol):
    """Judges drafts, and lends its engine to a policy without one of its own."""

    @property
    def engine(self) -> Engine: ...

    def find_profile(self, name: str | None) -> Profile:
        """Return the profile of that name, the default for None. Raises UnknownName, ProfileNotServed."""
        ...

    def check(self, task: Task) -> None:
        """Raise what `judge` would raise before any work: BadTask and its subclasses, EngineNotReady."""
        ...

    async def judge(self, task: Task, *, requester: Requester) -> Record:
        """Return the recorded verdict on a task."""
        ...

    def limited(self, engine: Engine) -> Engine:
        """Return an engine whose completions count among those that the service has under way at once."""
        ...

    def admit(self, requester: Requester) -> AbstractContextManager[Requester]:
        """Count an improvement as one of the caller's requests; yield the requester of its steps.

        Raises ShareTaken if the caller has its maximum of requests.
        """
        ...

    def reserve(
        self, samples: int, prompt_chars: int, requester: Requester, deadline: float | None = None
    ) -> AbstractAsyncContextManager[None]:
        """Wait in the queue and hold room for `samples`, whose prompts have `prompt_chars` characters in all.

        `deadline` is on the loop's clock. Raises TooMuchText, Overloaded, and Shed if the deadline cannot be
        met.
        """
        ...

    def count_tokens(self, usage: Usage) -> None:
        """Count tokens that were generated on the engine outside of judgements."""
        ...
