r"""Neutralise untrusted text: break what could act on the model or the parser, by one inserted space.

Queries, responses, references and callers' principles are data. The space goes into control tokens of chat
templates, `< |im_end|>`; into a box, `\boxe d{8, 9}`; and into a word of the lines that open or close a
section or a turn of the profile's own templates, `[T he End of Response 1]`, `u ser: ...`. Look-alikes
(look_alikes.py) count too. Nothing else changes. The time is linear in the text.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import get_args

from grm_service.judging.control_tokens import USUAL_TOKENS
from grm_service.judging.look_alikes import Places, fold
from grm_service.profiles.profile import PLACEHOLDER, Profile
from grm_service.thinking import USUAL_TAGS
from grm_service.types import Role

Clean = Callable[[str], str]

# Patterns are matched against folded text. Each has one group: where the space may break it.
_BOX = r"\\boxe(d\{)"

_BLOCK = re.compile(
    r"\{\{\s*(?:content|items|conversation|responses|principles|reference|constitution)\s*\}\}"
)
_HEADING = re.compile(r"##|\[|(?:--|\*\*|[^\w\s\"'“”(（{}*+•·>–-]).*[^\W\d_]")
"""A line that stands out by its first character, wherever it is."""
_LONGEST_HEADING = 60
_GAP = r"[\s*_`~\\]*"
"""What may stand between the words of a heading without changing how it looks: space and Markdown."""
_LINE_START = r"(?m:^)[ -/:-@\[-`|-~•·→]*(?:\d{1,3}[.)] *)?"
"""All ASCII punctuation but the brace, with which JSON and code begin, and the number of a list's item."""
_LINE_END = r"[ *_`~#:.=\])>-]*(?m:$)"
_UNDERLINE = r"[ *_`:]*\n *(?:==|--)"
_DECORATED = r"(?<=[#*_>]) *"
_HASHES = r"\#(?<!\#\#)\#+" + _GAP
_VALUE = r"[#(.:-]?\w{1,16}[).:-]?"
_INDEX = r"#?(?:\d{1,3}|[a-z]\b|[一二三四五六七八九十])"
_NUMBER = r"\d{1,3}"
_BRACKETS = re.compile(r"[\[\]()<>]")
_GAP_OR_BRACKETS = r"[\s*_`~\\\[\]()<>]*"
_ROLE = rf"(?:{'|'.join(get_args(Role))})"
_PIECE = re.compile(r"\{\{\s*\w+\s*\}\}|[^\W_]+|[^\w\s*_`~\\]")
_FIRST = re.compile(r"(?:\((?:\?-i:)?)*(\\.|[^\\(])", re.DOTALL)
"""The first character that a pattern matches; each begins with a literal one."""
_WORD_FIRST = re.compile(r"[(?:]*\w")
_LONG, _PAUSE_S = 50_000, 0.005
_ADJACENT = re.compile(r"\S(?=\S)")


@lru_cache(maxsize=64)
def neutraliser(profile: Profile, control_tokens: tuple[str, ...] = (), template: str = "") -> Clean:
    """Return a function that neutralises a text for the profile's prompts.

    `control_tokens` are those of the engine's model; `template` is one besides the profile's own.
    """
    own = profile.prompt
    texts = (own.judge, own.response, own.reference, own.fixed, own.constitution, own.query, template)
    markers = {marker for text in texts for marker in _markers(text, text == own.response)}
    return _breaker((_BOX, *_control(profile, control_tokens), *sorted(markers), *_turn_markers(own.turn)))


@lru_cache(maxsize=64)
def chat_neutraliser(
    control_tokens: tuple[str, ...] = (), profile: Profile | None = None, block: str = ""
) -> Clean:
    """Return the same for plain chat, where control tokens act, and the lines around texts in a `block`."""
    return _breaker((*_control(profile, control_tokens), *sorted(set(_markers(block, by_index=True)))))


def _control(profile: Profile | None, control_tokens: tuple[str, ...]) -> tuple[str, ...]:
    """Return the patterns of the usual control tokens, of the engine's and of the profile's."""
    tags = (*USUAL_TAGS, *(profile.thinking.tags if profile else ()))
    tokens = (
        *control_tokens,
        *(profile.control_tokens if profile else ()),
        *(t for pair in tags for t in pair),
    )
    usual = re.compile("|".join(USUAL_TOKENS), re.IGNORECASE)
    folded = {fold(token) for token in tokens}
    # What has no two characters side by side cannot be broken by a space; no chat template uses such a token.
    others = {each for each in folded if _ADJACENT.search(each) and not usual.fullmatch(each)}
    return (*USUAL_TOKENS, *(f"({re.escape(each)})" for each in sorted(others)))


def _any_of(patterns: Iterable[str]) -> str:
    """Return one pattern for all; most places in a text fail at a look at their first character."""
    at_line_start, by_first = list[str](), defaultdict[str, list[str]](list)
    for pattern in patterns:
        if pattern.startswith(_LINE_START):
            at_line_start.append(pattern.removeprefix(_LINE_START))
        else:
            by_first[_FIRST.match(pattern)[1]].append(pattern)  # type: ignore[index]
    places = [f"(?={first})(?:{'|'.join(group)})" for first, group in by_first.items()]
    anywhere = f"(?=[{''.join(by_first)}])(?:{'|'.join(places)})"
    if not at_line_start:
        return anywhere
    # Words can begin only where the punctuation ends, so that they are not tried at all of its places.
    words = [each for each in at_line_start if _WORD_FIRST.match(each)]
    others = [each for each in at_line_start if not _WORD_FIRST.match(each)]
    return f"{anywhere}|{_LINE_START}(?:(?=\\w)(?:{'|'.join(words) or '(?!)'})|{'|'.join(others) or '(?!)'})"


def _breaker(patterns: Iterable[str]) -> Clean:
    control = re.compile(_any_of(patterns), re.IGNORECASE)

    def clean(text: str) -> str:
        folded = fold(text)
        match = control.search(folded)
        if len(text) > _LONG:
            # A search holds the interpreter: the event loop has some turns before the next one.
            time.sleep(_PAUSE_S)
        if match is None:
            return text
        places, cuts = Places(text), [0]
        while match is not None:
            cut = _cut(match, places)
            if cut is not None:
                cuts.append(places[cut])
            # Matches may overlap, but none that contains the cut is left.
            match = control.search(folded, match.start() + 1 if cut is None else cut)
        return " ".join(text[start:end] for start, end in pairwise([*cuts, len(text)]))

    return clean


def _cut(match: re.Match[str], places: Places) -> int | None:
    """Return the index in the folded text before which a space breaks a match, None if none does."""
    start, end = match.span(match.lastindex or 0)
    for pair in _ADJACENT.finditer(match.string, start, end):
        if places[pair.end()] != places[pair.start()]:
            return pair.end()
    return None


def _markers(template: str, by_index: bool = False) -> Iterator[str]:
    """Yield patterns of the lines that open and close the sections of a template.

    `by_index`: each of its lines is next to data, since the template is that of a response.
    """
    lines = [line for line in template.splitlines() if line.strip()]
    for i, line in enumerate(lines):
        near = "\n".join(lines[max(i - 1, 0) : i + 2])
        yield from _line_markers(line, by_index or _BLOCK.search(near) is not None)


def _line_markers(line: str, by_data: bool) -> Iterator[str]:
    """Yield the patterns of a template's line, without the blocks of data in it.

    A line that stands out counts anywhere. Its words, and what is next to data, count at the start of a line.
    """
    *before_data, last = [part.strip() for part in _BLOCK.split(line)]
    for part, end in [*((part, "") for part in before_data), (last, _LINE_END)]:
        plain = part.strip("# ")
        if part.startswith("#") and _is_heading(plain):
            yield _HASHES + _marker(plain) + r"(?![a-z0-9])"
            yield _at_line_start(_marker(plain, _INDEX), end, _DECORATED)
            yield _LINE_START + _marker(plain, _INDEX) + _UNDERLINE
        elif _HEADING.match(part):
            yield _marker(part)
            if _BRACKETS.match(part):
                yield _at_line_start(_without_brackets(part, _INDEX), end)
        elif by_data and _is_heading(part):
            yield _at_line_start(_marker(part, _INDEX), "" if part.endswith((":", "：")) else end)
        elif by_data and _ADJACENT.search(part):
            yield f"{_LINE_START}({_exact(part, {'i': _NUMBER})}){end}"


def _at_line_start(marker: str, end: str, decorated: str = "") -> str:
    """Return the pattern of a heading; without a response's number it ends the line, `decorated` if so."""
    return _LINE_START + (marker if _INDEX in marker else decorated + marker + end)


def _is_heading(words: str) -> bool:
    return len(words) <= _LONGEST_HEADING and re.match(r"(?=\w).*[^\W\d_]", words) is not None


def _turn_markers(turn: str) -> Iterator[str]:
    """Yield patterns of the line that opens a turn in any role, and of the others that stand around turns."""
    for line in turn.splitlines():
        opening, *after = _BLOCK.split(line)
        if "role" not in PLACEHOLDER.findall(opening):
            yield from _line_markers(line, by_data=True)
            continue
        yield _LINE_START + _without_brackets(opening, _VALUE) + ("" if after else _LINE_END)
        for part in after:
            yield from _line_markers(part, by_data=True)


def _without_brackets(line: str, index: str) -> str:
    """Return the pattern of a line's words, with or without its brackets and the Markdown before them."""
    return _marker(_BRACKETS.sub(" ", line).strip("#*-> "), index, _GAP_OR_BRACKETS)


def _marker(line: str, index: str = _VALUE, gap: str = _GAP) -> str:
    """Return the pattern of a template's line; `index` is that of a response's number.

    What matches `gap` may stand between its words if it has a word that a space can break.
    """
    values = {"i": index, "role": _ROLE}
    pieces = _PIECE.findall(fold(line))
    first = next((at for at, piece in enumerate(pieces) if _is_breakable(piece)), None)
    if first is None:
        return f"({_exact(line, values)})"
    patterns = [_pattern(piece, values, gap) for piece in pieces]
    patterns[-1] = _pattern(pieces[-1], values, "")
    return f"{''.join(patterns[:first])}({''.join(patterns[first:])})"


def _is_breakable(piece: str) -> bool:
    return (len(piece) > 1 and piece.isalnum()) or PLACEHOLDER.findall(piece) == ["role"]


def _pattern(piece: str, values: Mapping[str, str], gap: str) -> str:
    if names := PLACEHOLDER.findall(piece):
        return values.get(names[0], _VALUE) + gap
    return f"(?:{piece}{gap})?" if piece.lower() == "the" else re.escape(piece) + gap


def _exact(line: str, values: Mapping[str, str]) -> str:
    literals, names = PLACEHOLDER.split(fold(line))[::2], PLACEHOLDER.findall(line)
    escaped = [re.sub(r"(?:\\ )+", r"\\s+", re.escape(part)) for part in literals]
    pairs = zip(escaped, [*(values.get(name, _VALUE) for name in names), ""], strict=True)
    return "".join(literal + value for literal, value in pairs)
