"""Rows with `chosen` and `rejected`: the conversation that both share, and the two answers behind it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from grm_service.content import is_reasoning, to_response
from grm_service.evaluation.dataset import SAME_RESPONSES, SkippedRow
from grm_service.plain_values import kind_of
from grm_service.row_values import (
    RawRow,
    Turns,
    join,
    prompt,
    refuse_turns_as_text,
    required,
    same_turns,
    to_turns,
    with_system,
)
from grm_service.types import SYSTEM_ROLES

_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")


def split_pair(row: RawRow) -> tuple[Turns, str, str]:
    """Return the conversation and the chosen and the rejected answer, which begin where the two part.

    Raises SkippedRow if they part at a turn that is not the assistant's, or nowhere; ValueError.
    """
    dialogues = _are_dialogues(row)
    before = () if dialogues else prompt(row)
    chosen, rejected = (_raw_turns(row, column, dialogues) for column in ("chosen", "rejected"))
    one, other = join(before, to_turns("chosen", chosen)), join(before, to_turns("rejected", rejected))
    shared = _shared(one, other)
    if shared == len(one) == len(other):
        raise SkippedRow(SAME_RESPONSES)
    if shared in (len(one), len(other)):
        raise SkippedRow("one conversation is the beginning of the other")
    if not one[shared].role == other[shared].role == "assistant":
        raise SkippedRow("chosen and rejected part at a turn that is not the assistant's")
    if all(turn.role in SYSTEM_ROLES for turn in one[:shared]):
        raise ValueError("there is no prompt: write it into prompt, or as turns into chosen and rejected")
    answers = (_answer(chosen, len(one) - shared), _answer(rejected, len(other) - shared))
    return with_system(row, one[:shared]), *answers


def _shared(one: Turns, other: Turns) -> int:
    """Return the number of turns that two conversations share at the beginning."""
    for n, (turn, its) in enumerate(zip(one, other, strict=False)):
        if not same_turns((turn,), (its,)):
            return n
    return min(len(one), len(other))


def _answer(turns: Sequence[Any], n: int) -> str:
    """Return the last `n` turns as one text. Raises ValueError if they begin before these turns."""
    if n > len(turns):
        raise ValueError("chosen and rejected hold the prompt at different places: write it into prompt only")
    return to_response(turns[-1] if n == 1 else turns[-n:])


def _raw_turns(row: RawRow, column: str, dialogue: bool) -> Sequence[Any]:
    """Return the turns of a column unread; a text alone is the assistant's. Raises ValueError."""
    value = required(row, column)
    if isinstance(value, str):
        return _split_dialogue(value) if dialogue else [{"role": "assistant", "content": value}]
    if isinstance(value, Mapping):
        turn = {name: each for name, each in value.items() if each is not None}
        return [turn if turn.keys() & {"role", "from"} else {"role": "assistant", **turn}]
    if not isinstance(value, list) or not value or not all(isinstance(turn, Mapping) for turn in value):
        what = "a list of texts" if isinstance(value, list) and value else kind_of(value)
        raise ValueError(f"{column} is {what}: it must be a text, or turns with role and content")
    return [turn for turn in value if not is_reasoning(turn)] or value


def _are_dialogues(row: RawRow) -> bool:
    """Return whether chosen and rejected are conversations written as text. Raises ValueError."""
    texts = [row[column] for column in ("chosen", "rejected") if isinstance(row[column], str)]
    if len(texts) < 2:
        return False
    refuse_turns_as_text("chosen and rejected", *texts)
    if not prompt(row):
        return True
    before = row.get("prompt")
    return (
        isinstance(before, str)
        and _SPEAKER.match(before) is not None
        and all(text.startswith(before) for text in texts)
    )


def _split_dialogue(text: str) -> list[dict[str, str]]:
    """Split a conversation written as text into turns. Raises ValueError."""
    before, *parts = _SPEAKER.split(text)
    if before.strip() or not parts or parts[-2] != "Assistant":
        raise ValueError(
            "there is no prompt: write it into prompt, or let the texts alternate Human: and Assistant: turns"
        )
    turns = zip(parts[::2], parts[1::2], strict=True)
    return [{"role": _SPEAKERS[speaker], "content": content.strip()} for speaker, content in turns]
