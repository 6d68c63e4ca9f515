"""Text of others as a terminal, a log or a report may show it: control characters are escaped, visibly."""

from __future__ import annotations

import json
import re

# Control characters (C0 without tab and line feed, DEL, C1), characters that reorder or hide text
# (bidirectional controls, invisible operators, tags), further line ends, and surrogates, which no
# stream can encode. The joiners U+200C and U+200D stay: scripts and emoji need them.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def printable(text: str) -> str:
    r"""Return the text with unsafe characters written as `\x1b`, `\u202e`, `\U000e0001`.

    Line feeds and tabs stay, and CRLF becomes a line feed.
    """
    return _UNSAFE.sub(lambda match: _escape(ord(match[0])), text.replace("\r\n", "\n"))


def printable_line(text: str) -> str:
    r"""Return the text as `printable` does, in one line: line feeds and tabs are written as `\n` and `\t`."""
    return printable(text).replace("\n", r"\n").replace("\t", r"\t")


def printable_json(text: str) -> str:
    r"""Return the same JSON value with unsafe characters of its strings written as `\u009b`."""
    return _UNSAFE.sub(lambda match: _escape_json(match[0]), text)


def is_printable(text: str) -> bool:
    """Return whether a text is one line without unsafe characters."""
    return printable_line(text) == text


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escape_json(character: str) -> str:
    # json.dumps writes pairs of surrogates beyond U+FFFF, but leaves DEL as it is.
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else json.dumps(character)[1:-1]
