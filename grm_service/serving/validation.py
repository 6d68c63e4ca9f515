"""All that can be refused of a request before any work."""

from __future__ import annotations

from dataclasses import replace

from grm_service.engines.base import Engine
from grm_service.errors import BadTask, MetaRMNotServed, ProfileNotServed, SoftNotServed, TextTooLong
from grm_service.profiles.catalog import Catalog
from grm_service.profiles.profile import Profile
from grm_service.types import Message, Principle, PrincipleSpec, Task

Admitted = tuple[Profile, tuple[Principle, ...]]
"""The profile to judge with, and the principles that people gave."""


class Validator:
    """Lets in what can be judged; `default` is the profile of a request that names none, and its meta RM the
    one that runs here, if it `grades`.
    """

    def __init__(
        self, catalog: Catalog, default: Profile, engine: Engine, text_chars: int, grades: bool = False
    ) -> None:
        self._catalog, self._default, self._engine = catalog, default, engine
        self._text_chars, self._grades = text_chars, grades

    def task(self, task: Task) -> tuple[Task, *Admitted]:
        """The task as it is judged (see `guided`). Raises BadTask and its kinds."""
        self._bound("responses", task.responses)
        self._bound("reference", (task.reference or "",))
        admitted = self.query(task.messages, task.profile, task.options.principles)
        lacking = self._engine.abilities.lacking()
        if task.options.score == "soft" and not {"continues", "alternatives"}.isdisjoint(lacking):
            raise SoftNotServed(
                "score 'soft' needs token probabilities behind a partial answer, which this server's engine "
                "does not give: ask for 'hard' (/readyz lists what the engine lacks)"
            )
        if not (task.reference or "").strip():
            task = replace(task, reference=None)  # a label that is not there, as some trainers have it
        return self.guided(task, admitted[0]), *admitted

    def guided(self, task: Task, profile: Profile) -> Task:
        """With `k_meta` as it will be: half of k where nothing is said and a meta RM runs for the profile.

        Raises MetaRMNotServed, and BadTask where it does not go with the rest.
        """
        served = self._grades and profile.meta_rm == self._default.meta_rm
        if task.options.k_meta is None and not served:
            return task
        k = task.options.k or profile.sampling.k
        k_meta = max(1, k // 2) if task.options.k_meta is None else task.options.k_meta
        if k_meta and not served:
            raise MetaRMNotServed(
                f"k_meta needs a meta RM, and this server runs none for the profile {profile.name!r}: leave "
                "it out, or set GRM_META_RM or GRM_META_RM_URL (/readyz tells which meta RM runs)"
            )
        if k_meta > k:
            raise BadTask(f"k_meta is {k_meta}, but of {k} samples (k) the meta RM can keep {k} at most")
        if k_meta and task.options.stop != "none":
            raise BadTask(
                f"stop {task.options.stop!r} cannot be combined with a meta RM, which ranks all samples: "
                "set k_meta to 0 to vote without it, or stop to 'none'"
            )
        return task.with_options(k_meta=k_meta)

    def query(self, messages: tuple[Message, ...], name: str | None, spec: PrincipleSpec) -> Admitted:
        """As `task`, where nothing is to be judged."""
        self._bound("messages", tuple(message.content for message in messages))
        profile, standard = self.profile(name), spec.items
        if spec.set_name is not None:
            standard = self._catalog.principle_set(spec.set_name).items() + standard
        if spec.mode == "fixed" and not standard:
            raise BadTask("principles.mode 'fixed' needs principles.items or principles.set")
        return profile, standard

    def profile(self, name: str | None) -> Profile:
        """Raises UnknownName, and ProfileNotServed where the profile is for another model."""
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
        """Whether the running model is the one that the profile is for (None: any)."""
        return profile.model is None or profile.model == self._default.model

    def profiles(self) -> list[Profile]:
        """The catalog's profiles and the default one, which may come from a file elsewhere."""
        return list({**self._catalog.profiles, self._default.name: self._default}.values())

    def _bound(self, field: str, texts: tuple[str, ...]) -> None:
        for i, text in enumerate(texts):
            if len(text) > self._text_chars:
                raise TextTooLong(f"{field}.{i}", len(text), self._text_chars)
