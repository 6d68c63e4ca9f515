"""The values of a YAML document with their lines: mappings, lists and plain values, and nothing else of YAML.

The parser's events are read one by one, so that a file of others costs no more than its length: an alias, a
tag, or nesting beyond `MAX_DEPTH` is refused where it stands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

Loc: TypeAlias = tuple[int | str, ...]
"""The path of a field: keys and indexes."""

MAX_DEPTH = 16
_MAX_DIGITS = 400
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
# The core schema of YAML 1.2: `no`, `on`, dates and 1:30 are texts.
_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_BASED_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class BadYAML(Exception):
    """A document that is not read: `message` says why, `line` and `loc` where."""

    def __init__(self, line: int, loc: Loc, message: str) -> None:
        self.line, self.loc, self.message = line, loc, message
        super().__init__(message)


@lru_cache(maxsize=64)
def parse(text: str) -> tuple[Any, dict[Loc, int]]:
    """Return the value of the only document of a text (None if it is empty), and the line of each field.

    The result is cached (the shipped files are loaded many times): do not change it. Raises BadYAML.
    """
    if control := _NOT_TEXT.search(text):
        line = text.count("\n", 0, control.start()) + 1
        raise BadYAML(line, (), f"the control character {control[0]!r}: remove it")
    reader = _Reader(YAML(typ="safe", pure=True).parse(text))
    try:
        return reader.document(), reader.lines
    except MarkedYAMLError as invalid:
        mark = invalid.problem_mark or invalid.context_mark
        raise BadYAML(mark.line + 1 if mark else 1, (), str(invalid.problem)) from None
    # Such as an escape beyond the last character, or (AssertionError) a directive of an unknown version.
    except (YAMLError, ValueError, OverflowError, AssertionError) as invalid:
        raise BadYAML(1, (), str(invalid)) from None


class _Reader:
    """Builds values from events, and notes the line of every field."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self.lines = dict[Loc, int]()

    def document(self) -> Any:
        documents, value = 0, None
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _bad(event, (), "a second document: write one per file")
                value = self._value(next(self._events), ())
        return value

    def _value(self, event: Any, loc: Loc) -> Any:
        if isinstance(event, AliasEvent):
            raise _bad(event, loc, "an alias (*): write the value itself")
        if event.tag is not None:
            raise _bad(event, loc, f"the tag {event.tag!s:.40}: write the value without it")
        if len(loc) > MAX_DEPTH:
            raise _bad(event, loc[:1], f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, MappingStartEvent):
            return self._mapping(loc)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(loc)
        return _scalar(event, loc)

    def _mapping(self, loc: Loc) -> dict[str, Any]:
        values = dict[str, Any]()
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._value(event, loc) if isinstance(event, ScalarEvent | AliasEvent) else None
            if not isinstance(key, str):
                raise _bad(event, loc, "a key that is no text: write a field's name")
            if key in values:
                raise _bad(event, (*loc, key), "duplicate: the field is there twice")
            self.lines[(*loc, key)] = event.start_mark.line + 1
            values[key] = self._value(next(self._events), (*loc, key))
        return values

    def _sequence(self, loc: Loc) -> list[Any]:
        values = list[Any]()
        while not isinstance(event := next(self._events), SequenceEndEvent):
            place = (*loc, len(values))
            self.lines[place] = event.start_mark.line + 1
            values.append(self._value(event, place))
        return values


def _scalar(event: Any, loc: Loc) -> Any:
    text = str(event.value)
    if control := _NOT_TEXT.search(text):
        raise _bad(event, loc, f"the control character {control[0]!r}: remove it")
    if event.style is not None:  # quoted, or a block
        return text
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _NOT_FINITE.fullmatch(text):
        raise _bad(event, loc, f"{text} is no finite number")
    if not (number := _INT.fullmatch(text) or _BASED_INT.fullmatch(text) or _FLOAT.fullmatch(text)):
        return text
    if len(text) > _MAX_DIGITS:
        raise _bad(event, loc, f"a number of {len(text)} digits: quote it if it is a text")
    if number.re is _FLOAT:
        if not math.isfinite(value := float(text)):
            raise _bad(event, loc, f"{text:.40} is no finite number")
        return value
    return int(text, 10 if number.re is _INT else 0)


def _bad(event: Event, loc: Loc, message: str) -> BadYAML:
    return BadYAML(event.start_mark.line + 1, loc, message)
