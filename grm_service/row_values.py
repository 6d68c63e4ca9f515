"""Values of data rows: conversations, responses and indices, with one check for eval, pairs and training."""

from __future__ import annotations

import re
import reprlib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from grm_service.content import to_messages, to_response
from grm_service.plain_values import encodable, kind_of
from grm_service.types import SYSTEM_ROLES, Message

RawRow = Mapping[str, Any]
Turns = tuple[Message, ...]
T = TypeVar("T")
_PROMPT_COLUMNS = ("prompt", "question", "instruction")
CONVERSATION_COLUMNS = ("messages", "conversations")
_SYSTEM_COLUMNS = ("system", "system_prompt")
_MEDIA_COLUMNS = ("image", "images", "audio", "audios", "video", "videos")
_TURNS_AS_TEXT = re.compile(r"""\s*\[\s*\{\s*['"](role|content|from|value)['"]\s*:.*\}\s*\]\s*""", re.DOTALL)


def has(row: RawRow, column: str) -> bool:
    """Return whether the row has a text or list there: not null, which `datasets` fills in, and not empty."""
    value = row.get(column)
    return bool(value.strip() if isinstance(value, str) else value)


def required(row: RawRow, column: str) -> Any:
    """Return the value of a column. Raises ValueError if it is missing or null."""
    if row.get(column) is None:
        raise ValueError(f"{column} is {'null' if column in row else 'missing'}: give it a value")
    return row[column]


def required_list(row: RawRow, column: str) -> Sequence[Any]:
    """Return the entries of a list with at least one. Raises ValueError, also for a list stored as text."""
    entries = required(row, column)
    if not isinstance(entries, (list, tuple)):
        raise ValueError(f"{column} is {kind_of(entries)}: it must be a list")
    if not entries:
        raise ValueError(f"{column} is empty")
    return entries


def response(row: RawRow, column: str) -> str:
    """Return the text of a response: a text, an object with `content`, or turns. Raises ValueError."""
    return _checked(column, to_response, required(row, column))


def responses(row: RawRow, column: str) -> tuple[str, ...]:
    """Return the texts of a list of responses. Raises ValueError."""
    names = {f"{column}[{i}]": entry for i, entry in enumerate(required_list(row, column))}
    return tuple(response(names, name) for name in names)


def conversation(row: RawRow, column: str) -> Turns:
    """Return the conversation of a column, after the row's system column. Raises ValueError."""
    return with_system(row, turns(row, column))


def turns(row: RawRow, column: str) -> Turns:
    """Return the conversation of a column: a text is one turn of the user. Raises ValueError."""
    value = required(row, column)
    if isinstance(value, str):
        refuse_turns_as_text(column, value)
    messages = to_turns(column, value)
    if not any(turn.content.strip() for turn in messages):
        raise ValueError(f"{column} is empty")
    return messages


def to_turns(name: str, value: Any) -> Turns:
    """Return a value as turns. Raises ValueError that names the column."""
    return _checked(name, to_messages, value)


def refuse_turns_as_text(name: str, *texts: str) -> None:
    """Raise ValueError if all the texts are lists of turns that were stored as text."""
    if all(_TURNS_AS_TEXT.fullmatch(text) for text in texts):
        raise ValueError(f"{name}: turns are stored as text, store a list of turns")


def prompt(row: RawRow) -> Turns:
    """Return the conversation of `prompt`, `question`, or `instruction` with `input`; () if there is none.

    Without these it is that of `messages` or `conversations`, less an answer at its end. Raises ValueError.
    """
    column = next((name for name in (*_PROMPT_COLUMNS, *CONVERSATION_COLUMNS) if has(row, name)), None)
    if column is None:
        return ()
    if column in CONVERSATION_COLUMNS:
        *before, last = turns(row, column)
        return tuple(before) if last.role == "assistant" else (*before, last)
    if column == "instruction":
        if has(row, "history"):
            raise ValueError("history is not read: write its turns into prompt")
        if has(row, "input"):
            row = {column: f"{row[column]}\n{row['input']}"}
    return turns(row, column)


def with_system(row: RawRow, messages: Turns) -> Turns:
    """Return a conversation after the system turn of the row's system column.

    Raises ValueError if it begins with another system turn, or if the row has images, audio or video.
    """
    if media := next((column for column in _MEDIA_COLUMNS if has(row, column)), None):
        raise ValueError(f"{media}: a judge reads text only, leave out the rows that need more")
    for column in _SYSTEM_COLUMNS:
        if has(row, column):
            system = _checked(column, to_response, row[column])
            messages = join((Message("system", system),), messages)
    return messages


def join(before: Turns, behind: Turns) -> Turns:
    """Return the conversation of two parts, of which one may repeat turns of the other.

    Where `behind` holds `before` it is the conversation; else its turns follow, less those that both have.
    Raises ValueError if the two contradict each other.
    """
    system, before = _split_system(before)
    other_system, behind = _split_system(behind)
    if system and other_system and not same_turns(system, other_system):
        raise ValueError("there are two system turns that differ: remove one")
    system = system or other_system
    ours, theirs = _compared(before), _compared(behind)
    if any(theirs[i : i + len(ours)] == ours for i in range(len(theirs) - len(ours) + 1)):
        return system + behind
    common = next(n for n in range(len(ours), -1, -1) if ours[len(ours) - n :] == theirs[:n])
    follows = not behind or behind[0].role != "user" or before[-1].role == "assistant"
    if not common and not follows:
        raise ValueError("the prompt and the conversation differ: remove one, or make one hold the other")
    return system + before + behind[common:]


def index(value: object, count: int, name: str) -> int:
    """Return an index below `count`; a float without a fraction is one. Raises ValueError."""
    # pandas writes integers as floats in a column with nulls. A bool equals 0 or 1, but is no index.
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value not in range(count):
        raise ValueError(
            f"{name} is {reprlib.repr(value)}: it must be an index of one of {count} responses, from 0"
        )
    return int(value)


def identifier(row: RawRow, column: str, default: str) -> str:
    """Return an id as text, the default for null. Raises ValueError."""
    value = row.get(column)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{column} is {reprlib.repr(value)}: it must be a text or a number")
    return encodable(str(int(value) if isinstance(value, float) and value.is_integer() else value))


def same_turns(one: Turns, other: Turns) -> bool:
    """Return whether two conversations have the same roles and, apart from spaces around them, texts."""
    return _compared(one) == _compared(other)


def _compared(messages: Turns) -> list[tuple[str, str]]:
    return [(turn.role, comparable(turn.content)) for turn in messages]


def comparable(text: str) -> str:
    """Return a text as it is compared with others: NFC, `\\n` for line ends, no spaces around it."""
    return unicodedata.normalize("NFC", text).replace("\r\n", "\n").strip()


def _split_system(messages: Turns) -> tuple[Turns, Turns]:
    n = 1 if messages and messages[0].role in SYSTEM_ROLES else 0
    return messages[:n], messages[n:]


def _checked(name: str, convert: Callable[[Any], T], value: Any) -> T:
    try:
        return convert(value)
    except ValueError as wrong:
        raise ValueError(f"{name}: {wrong}") from None
