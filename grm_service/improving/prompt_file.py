"""A data file of prompts, optionally with drafts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from grm_service.data_files import read_rows
from grm_service.errors import BadTask
from grm_service.row_values import RawRow, identifier, prompt, responses, with_system
from grm_service.types import TOOL_ROLES, Message

_MAX_DRAFTS = 64


@dataclass(frozen=True, slots=True)
class PromptItem:
    """A conversation that ends with the user's turn or a tool's result.

    `drafts` are answers to it, empty if none exist yet.
    """

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
    """Read a data file with `prompt` (a text or messages) and optional `system`, `id` and `drafts`.

    Other columns are ignored. Raises BadTask with file and line of an invalid row, before anything is judged.
    """
    prompts = dict[str, PromptItem]()
    for row in read_rows(path):
        try:
            item = _to_item(row.columns, str(row.line))
            if item.id in prompts:
                raise ValueError(f"duplicate id {item.id!r}")
        except ValueError as wrong:
            raise BadTask(f"{row.place}: {wrong}") from None
        prompts[item.id] = item
    if not prompts:
        raise BadTask(f"{path} has no prompt")
    return list(prompts.values())


def _to_item(row: RawRow, line: str) -> PromptItem:
    """Return the item; without an id, the line number is its id. Raises ValueError."""
    messages = with_system(row, prompt(row))
    if not messages:
        raise ValueError("there is no prompt: write a text or a list of turns into the column prompt")
    if messages[-1].role not in ("user", *TOOL_ROLES):
        raise ValueError("the prompt's last turn must be the user's, or a tool's result")
    drafts = responses(row, "drafts") if row.get("drafts") else ()
    if len(drafts) == 1:
        raise ValueError("a single draft makes no pair: pass two or more, or none to have them written")
    if len(drafts) > _MAX_DRAFTS:
        raise ValueError(f"there are {len(drafts)} drafts, at most {_MAX_DRAFTS} are judged: split the row")
    return PromptItem(identifier(row, "id", line), messages, drafts)
