"""Look-alikes: which characters count as the same when untrusted text is searched for control text.

One rule for all searches: compatibility forms (NFKD) and look-alike letters are the plain character; marks
and characters that are not displayed are nothing; every space is a space, every line break a line feed.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from itertools import accumulate

_LETTERS = str.maketrans(
    "АВЕЗКМНОРСТУХІЈЅҮԌԚԜаеорсухіјѕһԁԛԝѵүΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹαειικνορυχϲϳօոսհցıȷɑɡοᴏⅼ",
    "ABE3KMHOPCTYXIJSYGQWaeopcyxijshdqwvyABEZHIKMNOPTYXCaeiikvopuxcjonuhgijagool",
)
_SIGNS = str.maketrans("【〔〖】〕〗│∣ǀ￨♯⋕∶꞉ː։⁚‘’‚ʼ“”„‐‒–—―−⠀", "[[[]]]||||##:::::''''\"\"\"------ ")
_LINE_BREAKS = frozenset("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
# Displayed as nothing, although their category is that of a letter.
_BLANK_LETTERS = frozenset("\u115f\u1160\u3164\uffa0")
_MOST_REMEMBERED = 1 << 16
_LONGEST = 4


class _Folds(dict[int, str]):
    """The plain form of each character, remembered for the usual ones."""

    def __missing__(self, code: int) -> str:
        plain = _plain(chr(code))
        if len(self) < _MOST_REMEMBERED:
            self[code] = plain
        return plain


def _plain(char: str) -> str:
    if char in _LINE_BREAKS:
        return "\n"
    if char in _BLANK_LETTERS:
        return ""
    parts = unicodedata.normalize("NFKD", char).translate(_LETTERS).translate(_SIGNS)
    # A whole phrase in one character, which only Arabic has, is no part of a control text.
    return "".join(map(_displayed, parts[:_LONGEST]))


def _displayed(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Zs" or char == "\t":
        return " "
    return "" if category in ("Cf", "Cc", "Mn", "Me") else char


_FOLDS = _Folds()


def fold(text: str) -> str:
    """Return the text in plain characters: what looks the same, or becomes the same token, is the same."""
    return text.translate(_FOLDS)


class Places:
    """Where the characters of a folded text come from in the text itself."""

    def __init__(self, text: str) -> None:
        self._ends = None if text.isascii() and len(fold(text)) == len(text) else _ends(text)

    def __getitem__(self, at: int) -> int:
        """Return the index in the text of the character at an index of the folded text."""
        return at if self._ends is None else bisect_right(self._ends, at)


def _ends(text: str) -> list[int]:
    """Return for each character where its plain form ends in the folded text."""
    return list(accumulate(len(_FOLDS[ord(char)]) for char in text))
