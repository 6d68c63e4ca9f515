"""General instruction data, mixed into fine-tuning (without it the paper's judge loses 6.6 points)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from grm_service.data_files import read_rows
from grm_service.errors import BadTask
from grm_service.row_values import (
    CONVERSATION_COLUMNS,
    RawRow,
    Turns,
    conversation,
    has,
    join,
    prompt,
    required,
    to_turns,
    with_system,
)


def read_instructions(path: Path) -> list[Turns]:
    """Return the conversations of a data file; each ends with an answer of the assistant.

    A row has `messages`, or `prompt` and `completion`, each a text or a list of turns. Raises BadTask.
    """
    instructions = list[Turns]()
    for row in read_rows(path):
        try:
            instructions.append(_to_turns(row.columns))
        except ValueError as wrong:
            raise BadTask(
                f"{row.place} is not an instruction: {wrong}; a row needs messages that end with an answer, "
                "or prompt and completion"
            ) from None
    return instructions


def draw_share(instructions: Sequence[Turns], share: float, examples: int, seed: int) -> list[Turns]:
    """Draw instructions until they are a share (0..1, below 1) of all training data, each at most once."""
    count = round(examples * share / (1 - share))
    return random.Random(seed).sample(instructions, min(count, len(instructions)))


def _to_turns(row: RawRow) -> Turns:
    column = next((name for name in CONVERSATION_COLUMNS if has(row, name)), None)
    if column:
        turns = conversation(row, column)
    else:
        answer = required(row, "completion")
        if isinstance(answer, str):
            answer = [{"role": "assistant", "content": answer}]
        turns = with_system(row, join(prompt(row), to_turns("completion", answer)))
    if len(turns) < 2 or turns[-1].role != "assistant":
        raise ValueError("it does not end with an answer to a prompt")
    return turns
