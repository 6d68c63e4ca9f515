"""Prompts out of a file, with drafts where there are some already."""

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
    """A conversation that ends with the user's turn; `drafts` are answers to it, empty: to be written."""

    id: str
    messages: tuple[Message, ...]
    drafts: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Of all that can change what becomes of it."""
        return hashlib.sha256(repr((self.messages, self.drafts)).encode("utf-8", "replace")).hexdigest()[:16]

    def seed(self, run: int) -> int:
        """Of its own, 0..2**31-1: else every prompt's drafts would be shown in the same orders."""
        return int.from_bytes(hashlib.sha256(f"{run}:{self.digest}".encode()).digest()[:4]) >> 1


def read(path: Path) -> list[PromptItem]:
    """A file of JSON Lines with `prompt` (a text, or messages), and `id` and `drafts` where there are any.

    Other columns are passed over. Raises BadTask with the line that cannot be read.
    """
    found = dict[str, PromptItem]()
    for number, line in _lines(path):
        try:
            row = _PromptRow.model_validate_json(line)
        except ValidationError as wrong:
            said = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'row'}: {e['msg']}" for e in wrong.errors())
            raise BadTask(f"{path}, line {number}: {said}") from None
        asked = row.to_asked(number)
        if asked.id in found:
            raise BadTask(f"{path}, line {number}: the id {asked.id!r} has been there before")
        found[asked.id] = asked
    if not found:
        raise BadTask(f"{path} has no prompt")
    return list(found.values())


class _Turn(BaseModel):
    role: Role
    content: str


def _messages(prompt: object) -> object:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


class _PromptRow(BaseModel):
    model_config = ConfigDict(extra="ignore")

    prompt: Annotated[list[_Turn], BeforeValidator(_messages), Field(min_length=1)]
    drafts: Annotated[list[str], Field(max_length=64)] = []
    id: str | int | None = None

    @model_validator(mode="after")
    def _answered(self) -> _PromptRow:
        if self.prompt[-1].role != "user":
            raise ValueError("the prompt's last turn must be the user's: it is what is answered")
        if len(self.drafts) == 1:
            raise ValueError("a single draft makes no pair: give two or more, or none to have them written")
        return self

    def to_asked(self, number: int) -> PromptItem:
        name = str(number) if self.id is None else str(self.id)
        turns = tuple(Message(turn.role, turn.content) for turn in self.prompt)
        return PromptItem(name, turns, tuple(self.drafts))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if line.strip():
                yield number, line
    except OSError as wrong:
        raise BadTask(f"{path} cannot be read: {wrong}") from None
