"""Values of numpy, pandas and others as Python's own, without importing these libraries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from grm_service.errors import BadTask
from grm_service.types import Message

_MAX_DEPTH = 64
_PLAIN = (str, dict, list, int, float, bool, type(None))


class NotText(BadTask, ValueError):
    """A content that has no text; the message states where and why."""


def encodable(text: str) -> str:
    """Return the text if it can be encoded and stored. Raises NotText."""
    if "\x00" in text:
        raise NotText("contains a NUL character (\\u0000): remove it")
    try:
        text.encode()
    except UnicodeEncodeError as wrong:
        raise NotText(f"contains a lone surrogate at character {wrong.start}: remove it") from None
    return text


def is_missing(value: object) -> bool:
    """Return whether a value stands for none: None, NaN, or a missing value of pandas."""
    if isinstance(value, float):
        return value != value
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def plain(value: object) -> object:
    """Return an array, a scalar of numpy, a message or a mapping as Python's own type, one level deep."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Message):
        return {"role": value.role, "content": value.content}
    # By their methods: numpy, torch, pandas and pydantic are not imported here.
    for name in ("tolist", "model_dump"):
        if callable(convert := getattr(value, name, None)):
            return convert()
    if isinstance(value, Mapping):
        return dict(value)
    is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)
    return list(value) if is_list else value  # type: ignore[call-overload]


def to_json(value: object, depth: int = 0, with_null: bool = False) -> Any:
    """Return a value as JSON has it; NaN is null, and null keys, which Arrow adds, are left out by default.

    Raises NotText.
    """
    if depth > _MAX_DEPTH:
        raise NotText(f"is nested more than {_MAX_DEPTH} levels deep")
    value = plain(value)
    if isinstance(value, dict):
        fields = {str(name): to_json(field, depth + 1, with_null) for name, field in value.items()}
        return {name: field for name, field in fields.items() if with_null or field is not None}
    if isinstance(value, list):
        return [to_json(item, depth + 1, with_null) for item in value]
    if is_missing(value):
        return None
    if isinstance(value, str | bool | int | float):
        return value
    raise NotText(f"{kind_of(value)} has no text")


def to_reference(value: object) -> str | None:
    """Return a reference answer or label as text; None for null, NaN, and what is empty or blank.

    Numbers and booleans are written as in JSON, so that a reference is the same over HTTP and from Python:
    True is `true`; 42.0 is `42`, since pandas writes integers beside nulls so. A list of one value is the
    value; longer lists and mappings are JSON. Raises NotText.
    """
    value = to_json(value)
    if isinstance(value, list) and len(value) == 1:
        return to_reference(value[0])
    if value is None or value in ([], {}) or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return encodable(value if isinstance(value, str) else dump(value))


def dump(value: object) -> str:
    """Return a value of `to_json` as JSON. Raises NotText."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except ValueError:
        raise NotText("has an integer of more than 4,300 digits: write it as a text") from None


def kind_of(value: object) -> str:
    """Return what a value is, for an error."""
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a text", dict: "an object"}
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "null" if value is None else kinds.get(type(value), f"a value of type {type(value).__name__}")
