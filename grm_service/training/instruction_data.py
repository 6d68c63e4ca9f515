"""General instruction data, mixed into fine-tuning (without it the paper's judge loses 6.6 points)."""

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
"""A conversation that ends with an answer of the assistant."""


def read_instructions(path: Path) -> list[Turns]:
    """Return the conversations of a JSON Lines file (.gz too).

    A row has `messages`, or `prompt` and `completion`, each a text or a list of turns. Raises BadTask.
    """
    instructions = list[Turns]()
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            for line in file:
                instructions.append(_turns(json.loads(line)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        row = f"{path}, row {len(instructions) + 1}"
        raise BadTask(
            f"{row}, is not an instruction: {type(error).__name__} {error}; a row needs messages that end "
            "with an answer, or prompt and completion"
        ) from None
    return instructions


def draw_share(instructions: Sequence[Turns], share: float, examples: int, seed: int) -> list[Turns]:
    """Draw instructions until they are a share (0..1, below 1) of all training data, each at most once."""
    count = round(examples * share / (1 - share))
    return random.Random(seed).sample(instructions, min(count, len(instructions)))


def _turns(row: dict[str, Any]) -> Turns:
    if "messages" in row:
        messages = row["messages"]
    else:
        messages = [*_messages("user", row["prompt"]), *_messages("assistant", row["completion"])]
    turns = tuple(Message(turn["role"], turn["content"]) for turn in messages)
    if len(turns) < 2 or turns[-1].role != "assistant":
        raise ValueError("it does not end with an answer")
    return turns


def _messages(role: str, content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content}] if isinstance(content, str) else content
