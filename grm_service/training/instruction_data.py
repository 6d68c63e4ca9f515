"""General instruction data, which a judge is trained on as well (without it the paper loses 6.6 points)."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grm_service.errors import BadTask
from grm_service.types import Message

Turns = tuple[Message, ...]
"""A conversation that ends in an answer."""


def read(path: Path) -> list[Turns]:
    """JSON Lines of `messages`, or of `prompt` and `completion` (texts or turns). Raises BadTask."""
    found = list[Turns]()
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            for line in file:
                found.append(_turns(json.loads(line)))
    except (OSError, ValueError, KeyError, TypeError) as wrong:
        where = f"{path}, row {len(found) + 1}"
        raise BadTask(
            f"{where}, is no instruction: {type(wrong).__name__} {wrong}; wanted are messages that end in an "
            "answer, or prompt and completion"
        ) from None
    return found


def share_of(general: Sequence[Turns], share: float, examples: int, seed: int) -> list[Turns]:
    """So many that they are this share (0..1, below 1) of all, or all there are; drawn once each."""
    wanted = round(examples * share / (1 - share))
    return random.Random(seed).sample(general, min(wanted, len(general)))


def _turns(row: dict[str, Any]) -> Turns:
    if "messages" in row:
        said = row["messages"]
    else:
        said = [*_said("user", row["prompt"]), *_said("assistant", row["completion"])]
    turns = tuple(Message(turn["role"], turn["content"]) for turn in said)
    if len(turns) < 2 or turns[-1].role != "assistant":
        raise ValueError("it does not end in an answer")
    return turns


def _said(role: str, what: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"role": role, "content": what}] if isinstance(what, str) else what
