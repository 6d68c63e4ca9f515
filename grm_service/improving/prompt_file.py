"""A JSON Lines file of prompts, optionally with drafts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from grm_service.errors import BadTask
from grm_service.types import Message, Role


@dataclass(frozen=True, slots=True)
class PromptItem:
    """A conversation that ends with the user's turn; `drafts` are answers to it, empty if none exist yet."""

    id: str
    messages: tuple[Message, ...]
    drafts: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """A digest of the texts, with which a resumed run detects that they have changed."""
        return hashlib.sha256(repr((self.messages, self.drafts)).encode("utf-8", "replace")).hexdigest()[:16]

    def seed(self, run_seed: int) -> int:
        """Return the prompt's own seed, 0..2**31-1."""
        # With one seed for all prompts, every prompt's drafts would be judged in the same orders.
        return int.from_bytes(hashlib.sha256(f"{run_seed}:{self.digest}".encode()).digest()[:4]) >> 1


def read_prompts(path: Path) -> list[PromptItem]:
    """Read a JSON Lines file with `prompt` (a text or messages) and optional `id` and `drafts`.

    Other columns are ignored. Raises BadTask with the number of an invalid line.
    """
    prompts = dict[str, PromptItem]()
    for number, line in _lines(path):
        try:
            row = _PromptRow.model_validate_json(line)
        except ValidationError as wrong:
            errors = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'row'}: {e['msg']}" for e in wrong.errors())
            raise BadTask(f"{path}, line {number}: {errors}") from None
        item = row.to_item(number)
        if item.id in prompts:
            raise BadTask(f"{path}, line {number}: duplicate id {item.id!r}")
        prompts[item.id] = item
    if not prompts:
        raise BadTask(f"{path} has no prompt")
    return list(prompts.values())


class _Turn(BaseModel):
    role: Role
    content: str


def _to_messages(prompt: object) -> object:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


class _PromptRow(BaseModel):
    model_config = ConfigDict(extra="ignore")

    prompt: Annotated[list[_Turn], BeforeValidator(_to_messages), Field(min_length=1)]
    drafts: Annotated[list[str], Field(max_length=64)] = []
    id: str | int | None = None

    @model_validator(mode="after")
    def _check(self) -> _PromptRow:
        if self.prompt[-1].role != "user":
            raise ValueError("the prompt's last turn must be the user's")
        if len(self.drafts) == 1:
            raise ValueError("a single draft makes no pair: pass two or more, or none to have them written")
        return self

    def to_item(self, number: int) -> PromptItem:
        """Return the item; without an id, the line number is its id."""
        name = str(number) if self.id is None else str(self.id)
        turns = tuple(Message(turn.role, turn.content) for turn in self.prompt)
        return PromptItem(name, turns, tuple(self.drafts))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the number and content of each line that is not blank."""
    try:
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if line.strip():
                yield number, line
    except OSError as wrong:
        raise BadTask(f"{path} cannot be read: {wrong}") from None
