"""Thinking: separate what a model thought from its answer, and join the two again to continue the answer.

Judges that think write a draft of their answer first. Nothing in a draft may be read as a score or a
principle, so the two are separated once, where a completion enters (judging/completion.py).
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from grm_service.types import Thinking

Tags = tuple[str, str]
"""The tags before and after the thinking, of two characters or more."""

USUAL_TAGS: tuple[Tags, ...] = (
    ("<think>", "</think>"),  # Qwen, DeepSeek, GLM, MiniMax, Hunyuan, Nemotron
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),  # EXAONE, Gemma
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("◁think▷", "◁/think▷"),  # Kimi
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # OpenThinker, Sky-T1
    ("<longcat_think>", "</longcat_think>"),  # LongCat
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("<unused94>thought", "<unused95>"),  # MedGemma
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss
)
_CHANNELS = USUAL_TAGS[-1]
# gpt-oss behind a server that leaves out special tokens: "analysisWe need to ...assistantfinalThe answer".
_BARE_START = re.compile(r"\s*analysis(?=[A-Z])")
_BARE_END = re.compile(r"assistant\s*final(?![a-z])")


def split_thinking(text: str, tags: Sequence[Tags] = (), opened: bool = False) -> tuple[Thinking | None, str]:
    """Return the thinking in a completion (None if there is none), and the answer.

    `tags` are recognized besides the usual ones. Thinking is what stands between two tags, before a lone end
    tag, or after a lone start tag (cut off). `opened`: the prompt ends in a start tag, so that a text without
    an end tag is thinking that was cut off.
    """
    text = _with_channels(text)
    start, end = _patterns(tuple(tags))
    if opened and start.match(text) is None:
        text = (*tags, *USUAL_TAGS)[0][0] + text
    parts: list[str] = []
    used: str | None = None
    rest, at = "", 0
    for first, last in _blocks(text, tags):
        used = used or text[first:last]
        parts.append(_untagged(text[first:last], start, end))
        rest += text[at:first] + ("\n" if first else "")
        at = last
    rest += text[at:]
    if ends := list(end.finditer(rest)):
        used = used or ends[-1][0]
        parts.append(_untagged(rest[: ends[-1].start()], start, end))
        rest = rest[ends[-1].end() :]
    cut = start.search(rest)
    if cut is not None:
        used = used or cut[0]
        parts.append(rest[cut.end() :])
        rest = rest[: cut.start()]
    if used is None:
        return None, text
    thought = "\n\n".join(part for part in map(str.strip, parts) if part)
    return Thinking(thought, cut is not None, _pair(used, tags)), rest.strip() if cut else rest.lstrip()


def joined(first: Thinking | None, second: Thinking | None) -> Thinking | None:
    """Return the thinking of a completion and of one that finishes it as one."""
    if first is None or second is None:
        return first or second
    return replace(first, text=f"{first.text}\n\n{second.text}")


def has_start_tag(text: str) -> bool:
    """Return whether a completion has one of the usual start tags."""
    return _patterns(())[0].search(_with_channels(text)) is not None


def join_thinking(thinking: Thinking | None, text: str) -> str:
    """Return the answer with its thinking, ended and in its tags, before it."""
    if thinking is None:
        return text
    start, end = thinking.tags
    return f"{start}\n{thinking.text}\n{end}\n\n{text}"


def opens_thinking(prompt: str, tags: Sequence[Tags] = ()) -> Tags | None:
    """Return the tags with whose start tag a rendered prompt ends, None if it ends with none."""
    end = prompt.rstrip()
    return next((pair for pair in (*tags, *USUAL_TAGS) if end.endswith(pair[0])), None)


def _with_channels(text: str) -> str:
    """Return a text of gpt-oss with the tags of its channels, if it begins with the name of a bare one."""
    if (start := _BARE_START.match(text)) is None:
        return text
    return _CHANNELS[0] + _BARE_END.sub(lambda _: _CHANNELS[1], text[start.end() :], count=1)


def _blocks(text: str, tags: Sequence[Tags]) -> Iterator[tuple[int, int]]:
    """Yield the span of each block from a start tag to the next end tag of its pair, in linear time."""
    start, end = _patterns(tuple(tags))
    spans: dict[str, deque[tuple[int, int]]] = defaultdict(deque)
    for match in end.finditer(text):
        spans[match[0].lower()].append(match.span())
    at = 0
    for match in start.finditer(text):
        ends = spans[_pair(match[0], tags)[1].lower()]
        while ends and ends[0][0] < match.end():
            ends.popleft()
        if match.start() >= at and ends:
            at = ends[0][1]
            yield match.start(), at


def _untagged(text: str, start: re.Pattern[str], end: re.Pattern[str]) -> str:
    return end.sub("", start.sub("", text))


def _pair(tag: str, tags: Sequence[Tags]) -> Tags:
    """Return the pair that a tag (or a block that begins with it) belongs to."""
    lowered = tag.lower()
    return next(
        pair
        for pair in (*tags, *USUAL_TAGS)
        if lowered.startswith(pair[0].lower()) or lowered == pair[1].lower()
    )


@lru_cache(maxsize=64)
def _patterns(tags: tuple[Tags, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of a start tag and of an end tag."""
    starts, ends = zip(*tags, *USUAL_TAGS, strict=True)
    return _any_of(starts), _any_of(ends)


def _any_of(tags: Sequence[str]) -> re.Pattern[str]:
    """Return the pattern of any of the tags; most places in a text fail at a look at two characters."""
    first, second = ("".join(re.escape(tag[at]) for tag in tags) for at in (0, 1))
    return re.compile(rf"(?=[{first}][{second}])(?:{'|'.join(map(re.escape, tags))})", re.IGNORECASE)
