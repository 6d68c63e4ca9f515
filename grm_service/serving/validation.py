"""Validation of requests: everything that is rejected before any work."""

from __future__ import annotations

from dataclasses import replace

from grm_service.engines.base import Engine
from grm_service.errors import (
    BadTask,
    MetaRMNotServed,
    ProfileNotServed,
    SoftNotServed,
    TextTooLong,
    TooMuchText,
)
from grm_service.judging.plan import prompts_of
from grm_service.lengths import messages_chars, principles_chars, task_chars
from grm_service.profiles.catalog import Catalog
from grm_service.profiles.profile import Profile
from grm_service.types import Message, Principle, PrincipleSpec, Task

Admitted = tuple[Profile, tuple[Principle, ...]]
"""The profile to judge with, and the principles from the request and its named set."""


class Validator:
    """Validates requests against what this server can judge.

    `default` is the profile for requests that name none. `text_chars` limits a single text, `prompt_chars`
    all prompts of a request. `grades`: the default profile's meta RM runs here.
    """

    def __init__(
        self,
        catalog: Catalog,
        default: Profile,
        engine: Engine,
        text_chars: int,
        prompt_chars: int,
        grades: bool = False,
    ) -> None:
        self._catalog, self._default, self._engine = catalog, default, engine
        self._text_chars, self._prompt_chars, self._grades = text_chars, prompt_chars, grades

    def task(self, task: Task) -> tuple[Task, *Admitted]:
        """Return the task as judged, its profile and the caller's principles. Raises BadTask, its kinds."""
        self._bound("responses", task.responses)
        self._bound("reference", (task.reference or "",))
        admitted = self.query(task.messages, task.profile, task.options.principles)
        thinks = self._thinks(admitted[0], task.options.thinking_tokens)
        task = self._with_score(task, admitted[0], thinks)
        if not (task.reference or "").strip():
            task = replace(task, reference=None)  # some trainers send an empty label for none
        self.prompt_chars(task, *admitted)
        return self.with_k_meta(task, admitted[0]), *admitted

    def prompt_chars(self, task: Task, profile: Profile, standard: tuple[Principle, ...]) -> int:
        """Return the most characters of a task's texts in the prompts of all its samples.

        Every round of samples has each response once; every prompt has the query, the reference and the
        principles. Raises TooMuchText.
        """
        k, n, prompts = task.options.k or profile.sampling.k, len(task.responses), prompts_of(task, profile)
        responses = sum(map(len, task.responses))
        query = query_chars(task.messages, standard) + len(task.reference or "")
        chars = k * responses + prompts * query
        what = (
            f"k={k} times {responses} characters in {n} responses, and up to {prompts} times {query} "
            "characters in query, reference and principles"
        )
        self.bound_prompts(what, chars, "lower k, or send fewer or shorter texts")
        return chars

    def bound_prompts(self, what: str, chars: int, remedy: str) -> None:
        """Raise TooMuchText if a request's prompts have more characters together than the server allows."""
        if chars > self._prompt_chars:
            raise TooMuchText(
                f"the prompts would have {chars} characters ({what}); the limit is {self._prompt_chars} "
                f"(GRM_MAX_PROMPT_CHARS): {remedy}"
            )

    def _thinks(self, profile: Profile, requested: int | None) -> bool:
        """Return whether the model thinks for a request. Raises BadTask if it cannot be turned off."""
        behavior = self._engine.thinking
        off = profile.thinking.limit(requested) == 0
        if off and behavior.thinks and not (behavior.can_disable or profile.thinking.off):
            raise BadTask(
                f"thinking_tokens is 0, but no way to turn off the thinking of {self._engine.model} is set: "
                f"put the request fields for it into thinking.off of the profile {profile.name!r} (such as "
                "chat_template_kwargs: {enable_thinking: false}), or omit thinking_tokens"
            )
        return behavior.thinks is not None and not off

    def _with_score(self, task: Task, profile: Profile, thinks: bool) -> Task:
        """Return the task with its kind of scores. Raises SoftNotServed if it asks for what is not served."""
        if task.options.score == "soft":
            self._require_soft_scores(thinks)
        if task.options.score is not None:
            return task
        try:
            if profile.sampling.score == "soft":
                self._require_soft_scores(thinks)
        except SoftNotServed:
            return task.with_options(score="hard")
        return task.with_options(score=profile.sampling.score)

    def _require_soft_scores(self, thinks: bool) -> None:
        """Raise SoftNotServed if the engine cannot score softly, with thinking before the scores or not."""
        abilities = self._engine.abilities
        if not (abilities.continues and abilities.alternatives):
            raise SoftNotServed(
                "score 'soft' needs token logprobs after a partial answer, which this server's engine does "
                "not return: use 'hard' (/readyz lists what the engine lacks)"
            )
        if thinks and not abilities.continues_thinking:
            raise SoftNotServed(
                "score 'soft' continues an answer that follows thinking, and the chat template or reasoning "
                "parser of the model server loses that thinking: use 'hard', or thinking_tokens 0 if the "
                "thinking can be turned off (/readyz shows what the engine lacks)"
            )

    def with_k_meta(self, task: Task, profile: Profile) -> Task:
        """Return the task with its `k_meta`: by default half of k if a meta RM runs for the profile.

        Raises MetaRMNotServed, and BadTask if it contradicts the other options.
        """
        served = self._grades and profile.meta_rm == self._default.meta_rm
        if task.options.k_meta is None and not served:
            return task
        k = task.options.k or profile.sampling.k
        k_meta = max(1, k // 2) if task.options.k_meta is None else task.options.k_meta
        if k_meta and not served:
            raise MetaRMNotServed(
                f"k_meta needs a meta RM, and this server runs none for the profile {profile.name!r}: omit "
                "it, or set GRM_META_RM or GRM_META_RM_URL (/readyz names the meta RM that runs)"
            )
        if k_meta > k:
            raise BadTask(f"k_meta is {k_meta}, but there are only {k} samples (k)")
        if k_meta and task.options.stop != "none":
            raise BadTask(
                f"stop {task.options.stop!r} cannot be combined with a meta RM, which ranks all samples: "
                "set k_meta to 0 to vote without it, or stop to 'none'"
            )
        return task.with_options(k_meta=k_meta)

    def query(self, messages: tuple[Message, ...], name: str | None, spec: PrincipleSpec) -> Admitted:
        """Return the profile and the caller's principles for a query, as `task` does."""
        self._bound("messages", tuple(message.content for message in messages))
        profile, standard = self.profile(name), spec.items
        if spec.set_name is not None:
            standard = self._catalog.principle_set(spec.set_name).items() + standard
        if spec.mode == "fixed" and not standard:
            raise BadTask("principles.mode 'fixed' needs principles.items or principles.set")
        return profile, standard

    def profile(self, name: str | None) -> Profile:
        """Return a profile by name, or the default. Raises UnknownName, ProfileNotServed (another model)."""
        if name is None or name == self._default.name:
            return self._default
        profile = self._catalog.profile(name)
        if not self.serves(profile):
            raise ProfileNotServed(
                f"profile {name!r} is for the model {profile.model}, but this server runs "
                f"{self._engine.model}: start one with --profile {name}"
            )
        return profile

    def serves(self, profile: Profile) -> bool:
        """Return whether the profile is for the running model, or for any model."""
        return profile.model is None or profile.model == self._default.model

    def profiles(self) -> list[Profile]:
        """Return the profiles of the catalog and the default one, which may come from another file."""
        return list({**self._catalog.profiles, self._default.name: self._default}.values())

    def _bound(self, field: str, texts: tuple[str, ...]) -> None:
        for i, text in enumerate(texts):
            if len(text) > self._text_chars:
                raise TextTooLong(f"{field}.{i}", len(text), self._text_chars)


def request_chars(task: Task) -> int:
    """Return the characters of the texts that a caller sent for a task."""
    return task_chars(task) + principles_chars(task.options.principles.items)


def query_chars(messages: tuple[Message, ...], principles: tuple[Principle, ...]) -> int:
    """Return the characters of a conversation and of principles."""
    return messages_chars(messages) + principles_chars(principles)
