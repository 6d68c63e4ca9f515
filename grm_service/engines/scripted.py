"""A deterministic engine without a model: it drives the whole service in tests and demonstrations."""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections.abc import Callable, Iterable

from grm_service.engines.base import Abilities
from grm_service.types import Alternative, Completion, Params, Prompt, Usage

_SHOWN = {
    "Specific Criteria": re.compile(
        r"^\[The Begin of Response (\w+)\]\n(.*?)\n\[The End of Response \1\]$", re.DOTALL | re.MULTILINE
    ),
    "Criteria": re.compile(
        r"^## Response (\w+)\n(.*?)\n*(?=^## Response |^## Task|^#### Output)", re.DOTALL | re.MULTILINE
    ),
}
"""How the shipped profiles show responses, by what they call the criteria that they ask for."""
_WORD = re.compile(r"\s*(?:\d+|[^\s\d]+)")
_OPEN_BOX = re.compile(r"\\boxed\{([^}]*)$")
Script = Callable[[Prompt, Params], str]


class ScriptedEngine:
    """Answers by a rule: `content`, `first` or `unreadable` by name, a list of texts, or any function.

    `content` scores each response by its text and the seed, blind to position; `first` gives 9 to
    whatever stands first and 3 to the rest; `unreadable` never writes a score. Where responses have letters
    the best one's is written in place of scores. Plain chat is answered by the seed. A list is used in turn.
    """

    name = "scripted"
    abilities = Abilities()
    ready = True
    control_tokens: tuple[str, ...] = ("<|im_start|>", "<|im_end|>")

    def __init__(self, script: str | Iterable[str] | Script = "content") -> None:
        if callable(script):
            self._write: Script = script
        elif isinstance(script, str):
            self._write = SCRIPTS[script]
        else:
            texts = iter(script)
            self._write = lambda prompt, params: next(texts)
        self.model = f"scripted-{script}" if isinstance(script, str) else "scripted"
        self.prompts: list[Prompt] = []

    async def start(self) -> None:
        """Nothing to load."""

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """The script's text, cut to `max_tokens` words and numbers as a model would be."""
        self.prompts.append(prompt)
        await asyncio.sleep(0)
        words = _WORD.findall(self._write(prompt, params))
        text = "".join(words[: params.max_tokens])
        seen = sum(len(m.content.split()) for m in prompt.messages) + len(prompt.continuation.split())
        return Completion(
            text=text,
            finish_reason="stop" if len(words) <= params.max_tokens else "length",
            usage=Usage(prompt_tokens=seen, completion_tokens=min(len(words), params.max_tokens)),
            alternatives=tuple(map(_likely, words[: params.max_tokens])) if params.alternatives else (),
        )

    async def close(self) -> None:
        """Nothing to free."""


def _likely(word: str) -> tuple[Alternative, ...]:
    """Three quarters for what was written and, where that is a score, the rest for the one below it."""
    written = Alternative(word, math.log(0.75))
    if not word.strip().isdecimal():
        return (written,)
    return written, Alternative(str(int(word) - 1), math.log(0.25))


def _by_content(prompt: Prompt, params: Params) -> str:
    def score(text: str) -> int:
        return 2 + _hash(text) % 8 + _hash(f"{params.seed}:{text}") % 3 - 1

    return _answer(prompt, params, [score(text) for _, text in _shown(prompt)])


def _hash(text: str) -> int:
    return hashlib.sha256(text.encode()).digest()[0]


def _first(prompt: Prompt, params: Params) -> str:
    return _answer(prompt, params, [9] + [3] * (len(_shown(prompt)) - 1))


def _unreadable(prompt: Prompt, params: Params) -> str:
    return "I would rather not say."


def _answer(prompt: Prompt, params: Params, scores: list[int]) -> str:
    numbers = ", ".join(map(str, scores))
    labels = [label for label, _ in _shown(prompt)]
    if labels and not labels[0].isdecimal():
        numbers = labels[scores.index(max(scores))]
    if opened := _OPEN_BOX.search(prompt.continuation):
        return numbers.removeprefix(opened[1]) + "}"
    listed = (
        "1. A good response answers the question that was asked. (Weight: 60%)\n2. It is clear. (Weight: 40%)"
    )
    if not labels:
        # Principles are begun for the engine, plain chat is not.
        return listed.removeprefix(prompt.continuation) if prompt.continuation else _draft(params.seed)
    told = "\n".join(f"Response {i} earns {s}." for i, s in enumerate(scores, 1))
    critique = f"{_named(prompt)}:\n{listed}\n\nAnalysis:\n{told}\n\nScores: \\boxed{{{numbers}}}"
    return critique.removeprefix(prompt.continuation)


def _draft(seed: int) -> str:
    """What it says in plain chat: something else for every seed, and not always as much."""
    told = [f"Point {i} of {seed % 1000}." for i in range(1, 2 + seed % 3)]
    return " ".join(("This answer was written by no model.", *told))


def _named(prompt: Prompt) -> str | None:
    """What the prompt calls criteria, by how it shows its responses; None where it shows none."""
    text = prompt.messages[-1].content
    return next((name for name, shown in _SHOWN.items() if shown.search(text)), None)


def _shown(prompt: Prompt) -> list[tuple[str, str]]:
    """Labels and texts."""
    name = _named(prompt)
    return _SHOWN[name].findall(prompt.messages[-1].content) if name else []


SCRIPTS: dict[str, Script] = {"content": _by_content, "first": _first, "unreadable": _unreadable}
