r"""Profiles and principle sets, the schema of the YAML in models/ and principles/.

The constraints are annotated-types metadata, so that this module does not import pydantic; yaml.py validates
them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le, MinLen

from grm_service.profiles.model_files import GGUF, STRICT, AdapterFolder, Text
from grm_service.types import Principle, ScoreKind

Tag = Annotated[str, MinLen(2)]  # a space within it breaks it in untrusted text
PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def fill(template: str, values: dict[str, str]) -> str:
    """Replace each `{{name}}` in one pass, so that placeholders inside a value are left alone."""
    return PLACEHOLDER.sub(lambda match: values[match[1]], template)


def placeholders(template: str) -> set[str]:
    """Return the names of the placeholders in a template."""
    return set(PLACEHOLDER.findall(template))


@dataclass(frozen=True, slots=True)
class Scale:
    """The range of scores: whole numbers, both ends included."""

    __pydantic_config__: ClassVar = STRICT
    min: Annotated[int, Ge(0)] = 1
    max: Annotated[int, Le(100)] = 10

    def __post_init__(self) -> None:
        if self.min >= self.max:
            raise ValueError(f"min ({self.min}) must be below max ({self.max})")


@dataclass(frozen=True, slots=True)
class Sampling:
    """Defaults for requests. `temperature` applies if k > 1; one sample is greedy (SPCT, section 4.1).

    `score` "soft" applies where the engine can; else the scores are hard.
    """

    __pydantic_config__: ClassVar = STRICT
    k: Annotated[int, Ge(1), Le(64)] = 8
    temperature: Annotated[float, Ge(0), Le(2)] = 0.5
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    max_tokens: Annotated[int, Ge(1)] = 512
    score: ScoreKind = "hard"


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The template of the user message and of the blocks in it; `_PLACEHOLDERS` lists what each may contain.

    `judge` is the whole message; blocks that a task does not need are left empty. `query` prompts for
    principles for a query alone.
    """

    __pydantic_config__: ClassVar = STRICT
    judge: Text
    turn: Text
    response: Text
    reference: Text
    fixed: Text
    constitution: Text
    query: Text
    system: str | None = None

    def __post_init__(self) -> None:
        for name, (required, optional) in _PLACEHOLDERS.items():
            used = placeholders(getattr(self, name))
            if missing := required - used:
                raise ValueError(f"{name} lacks the placeholder {_listed(missing)}")
            if unknown := used - required - optional:
                raise ValueError(
                    f"{name} has the unknown placeholder {_listed(unknown)}; "
                    f"it may hold {_listed(required | optional)}"
                )


_PLACEHOLDERS: dict[str, tuple[set[str], set[str]]] = {
    "judge": ({"conversation", "responses"}, {"principles", "reference", "n", "boxed"}),
    "turn": ({"content"}, {"role"}),
    "response": ({"i", "content"}, set()),
    "reference": ({"content"}, set()),
    "fixed": ({"items"}, set()),
    "constitution": ({"items"}, set()),
    "query": ({"conversation"}, {"constitution"}),
}


def _listed(names: set[str]) -> str:
    return ", ".join(f"{{{{{name}}}}}" for name in sorted(names))


@dataclass(frozen=True, slots=True)
class Sections:
    """The labels of the sections of a critique."""

    __pydantic_config__: ClassVar = STRICT
    criteria: Text = "Specific Criteria"
    analysis: Text = "Analysis"

    def __post_init__(self) -> None:
        if self.criteria.strip().casefold() == self.analysis.strip().casefold():
            raise ValueError("criteria and analysis must be different labels")
        for name, label in (("criteria", self.criteria), ("analysis", self.analysis)):
            if not re.search(r"\w", label) or "\n" in label:
                raise ValueError(f"{name} must be words on one line")


@dataclass(frozen=True, slots=True)
class Closing:
    r"""The closing of a completion that ended without scores.

    `text` is appended to the completion and ends in `\boxed{`, so that only numbers can follow. `ask` is a
    user turn that requests the scores if the engine cannot continue a partial answer.
    """

    __pydantic_config__: ClassVar = STRICT
    text: Text = "\n\nScores: \\boxed{"
    ask: Text = (
        "Now write only the scores of the responses, in their order, in this form and nothing else:\n"
        "Scores: \\boxed{{{boxed}}}"
    )

    def __post_init__(self) -> None:
        if not self.text.endswith("\\boxed{"):
            raise ValueError("text must end in \\boxed{")
        if unknown := placeholders(self.ask) - {"boxed"}:
            raise ValueError(f"ask has the unknown placeholder {_listed(unknown)}")


@dataclass(frozen=True, slots=True)
class ThinkingSettings:
    """How the judge thinks before it answers, for models that do.

    `tokens` is the default of a request's `thinking_tokens`: the most tokens of thinking, on top of
    `max_tokens`; 0 turns the thinking off, null leaves it to the engine. `tags` are pairs of tags around the
    thinking, besides the usual ones (grm_service/thinking.py). `opened`: the chat template ends in the start
    tag, so that a completion begins inside the thinking. `on` and `off` are the fields of a server's request
    that turn the thinking on and off, such as `chat_template_kwargs: {enable_thinking: false}`; embedded
    engines use their `chat_template_kwargs`. `budget_field` is the field that bounds it in tokens.
    """

    __pydantic_config__: ClassVar = STRICT
    tokens: Annotated[int | None, Ge(0), Le(131072)] = None
    tags: tuple[tuple[Tag, Tag], ...] = ()
    opened: bool = False
    on: Mapping[str, Any] = field(default_factory=dict, hash=False)
    off: Mapping[str, Any] = field(default_factory=dict, hash=False)
    budget_field: Text | None = None

    def limit(self, requested: int | None) -> int | None:
        """Return the limit of a request in tokens: its own, or the default."""
        return self.tokens if requested is None else requested

    def request_fields(self, tokens: int | None) -> Mapping[str, Any]:
        """Return the fields of a request with this many tokens for thinking (None: as the server does)."""
        if tokens == 0:
            return self.off
        budget = {self.budget_field: tokens} if self.budget_field and tokens is not None else {}
        return {**self.on, **budget}


@dataclass(frozen=True, slots=True)
class Profile:
    """One judge. `model` is a hub id or a path; None means the model that the server runs.

    `opening` is the start of every critique, if the engine can continue a partial answer: it keeps small
    models in the output format. Leave it empty for a model trained without one. `comparison` is how an
    analysis begins, with the number of the best response as {{best}}: soft scores of several responses are
    then the probabilities of their numbers, on the scale. More than `most_responses` responses are judged in
    overlapping groups (judging/block_design.py).
    """

    __pydantic_config__: ClassVar = STRICT
    name: Text
    description: Text
    prompt: PromptTemplate
    model: str | None = None
    meta_rm: str | None = None
    license: str | None = None
    gguf: GGUF | None = None
    adapter: AdapterFolder | None = None
    scale: Scale = Scale()
    sampling: Sampling = Sampling()
    sections: Sections = Sections()
    opening: str = ""
    comparison: str = ""
    closing: Closing = Closing()
    thinking: ThinkingSettings = ThinkingSettings()
    control_tokens: tuple[Text, ...] = ()
    most_responses: Annotated[int, Ge(2), Le(64)] = 8

    def __post_init__(self) -> None:
        if self.adapter and not self.gguf:
            raise ValueError("adapter is merged into the model of a GGUF, but no gguf is set")
        if self.comparison and placeholders(self.comparison) != {"best"}:
            raise ValueError("comparison needs the placeholder {{best}}, and no other")

    def compares(self, n: int) -> bool:
        """Return whether critiques of n responses have a comparison."""
        return bool(self.comparison) and n > 1

    @property
    def before_best(self) -> str:
        """The comparison up to the number of the best response; empty without a comparison."""
        return self.comparison.partition("{{best}}")[0]

    def best_is(self, number: int) -> str:
        """Return the comparison with this number of the best response (from 1)."""
        return fill(self.comparison, {"best": str(number)})


@dataclass(frozen=True, slots=True)
class WeightedPrinciple:
    """A principle of a set: one checkable sentence and a weight in (0, 1]."""

    __pydantic_config__: ClassVar = STRICT
    text: Text
    weight: Annotated[float, Gt(0), Le(1)]


@dataclass(frozen=True, slots=True)
class PrincipleSet:
    """A named set of principles written by people."""

    __pydantic_config__: ClassVar = STRICT
    name: Text
    description: Text
    principles: Annotated[tuple[WeightedPrinciple, ...], MinLen(1)]

    def items(self) -> tuple[Principle, ...]:
        """Return the principles for a prompt."""
        return tuple(Principle(p.text, p.weight) for p in self.principles)
