"""Thinking: separate what a model thought from its answer, and join the two again to continue the answer.

Judges that think write a draft of their answer first. Nothing in a draft may be read as a score or a
principle, so the two are separated once, where a completion enters (judging/sampler.py, `complete`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from grm_service.types import Thinking

Tags = tuple[str, str]
"""The tags before and after the thinking."""

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
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss
)


def split_thinking(text: str, tags: Sequence[Tags] = (), opened: bool = False) -> tuple[Thinking | None, str]:
    """Return the thinking in a completion (None if there is none), and the answer.

    `tags` are recognized besides the usual ones. Thinking is what stands between two tags, before a lone end
    tag, or after a lone start tag (cut off). `opened`: the prompt ends in a start tag, so that a text without
    an end tag is thinking that was cut off.
    """
    start, end, block = _patterns(tuple(tags))
    if opened and start.match(text) is None:
        text = (*tags, *USUAL_TAGS)[0][0] + text
    parts: list[str] = []
    used: str | None = None

    def take(match: re.Match[str]) -> str:
        nonlocal used
        used = used or match[0]
        parts.append(_untagged(match[0], start, end))
        return "\n" if match.start() else ""

    rest = block.sub(take, text)
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
def _patterns(tags: tuple[Tags, ...]) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of a start tag, of an end tag, and of a start tag with its end tag."""
    pairs = [tuple(map(re.escape, pair)) for pair in (*tags, *USUAL_TAGS)]
    flags = re.IGNORECASE | re.DOTALL
    return (
        re.compile("|".join(start for start, _ in pairs), flags),
        re.compile("|".join(end for _, end in pairs), flags),
        re.compile("|".join(f"{start}.*?{end}" for start, end in pairs), flags),
    )
