"""A deterministic engine without a model, for tests and demonstrations of the whole service."""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections.abc import Callable, Iterable

from grm_service.concurrency import off_the_loop
from grm_service.engines.base import Abilities, ThinkingBehavior
from grm_service.types import Alternative, Completion, Params, Prompt, Usage

# Line by line: of a lazy `.*?`, each character of a long line is a step in which other threads wait.
_RESPONSE_PATTERNS = {
    "Specific Criteria": (
        "[The Begin of Response ",
        re.compile(
            r"^\[The Begin of Response (\w+)\]\n((?:(?!\[The End of Response \1\]$).*\n)*+)\[The End of",
            re.MULTILINE,
        ),
    ),
    "Criteria": (
        "## Response ",
        re.compile(
            r"^## Response (\w+)\n((?:(?!## Response |## Task|#### Output).*\n)*+)(?=#)", re.MULTILINE
        ),
    ),
}
"""How responses (label, text) begin, and their patterns, in the shipped profiles' prompts, by their name for
criteria."""
_MOST_REMEMBERED = 2**20
"""Characters of the last prompts that an engine remembers."""
_WORD = re.compile(r"\s*(?:\d+|[^\s\d]+)")
_OPEN_BOX = re.compile(r"\\boxed\{([^}]*)$")
Script = Callable[[Prompt, Params], str]


class ScriptedEngine:
    """Generates by a script: the name `content`, `first` or `unreadable`, a list of texts, or a function.

    `content` scores each response by its text and the seed, whatever its position. `first` scores the first
    response 9 and all others 3. `unreadable` writes no score. If the responses are labelled with letters, the
    best one's letter replaces the scores; a comparison goes on with the best one's number. The answer to a
    plain chat depends on the seed. The texts of a list are used in order. `prompts` are the last ones, up to
    a million characters of them.
    """

    name = "scripted"
    abilities = Abilities()
    thinking = ThinkingBehavior()
    dropped_fields: tuple[str, ...] = ()
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
        self._remembered = 0

    async def start(self) -> None:
        """Nothing to load."""

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """Return the script's text, truncated to `max_tokens`; a token is a word or a number."""
        self._remember(prompt)
        await asyncio.sleep(0)
        words = _WORD.findall(await off_the_loop(prompt.chars, self._write, prompt, params))
        text = "".join(words[: params.max_tokens])
        return Completion(
            text=text,
            finish_reason="stop" if len(words) <= params.max_tokens else "length",
            usage=Usage(
                prompt_tokens=prompt.chars // 4, completion_tokens=min(len(words), params.max_tokens)
            ),
            alternatives=tuple(map(_alternatives, words[: params.max_tokens])) if params.alternatives else (),
        )

    async def close(self) -> None:
        """Nothing to free."""

    def _remember(self, prompt: Prompt) -> None:
        self.prompts.append(prompt)
        self._remembered += prompt.chars
        while self._remembered > _MOST_REMEMBERED and len(self.prompts) > 1:
            self._remembered -= self.prompts.pop(0).chars


def _alternatives(word: str) -> tuple[Alternative, ...]:
    """Return the probability 3/4 for the word and, if it is a score, 1/4 for the score below it."""
    written = Alternative(word, math.log(0.75))
    if not word.strip().isdecimal():
        return (written,)
    return written, Alternative(str(int(word) - 1), math.log(0.25))


def _by_content(prompt: Prompt, params: Params) -> str:
    def score(text: str) -> int:
        return 2 + _hash(text) % 8 + _hash(f"{params.seed}:{text}") % 3 - 1

    return _answer(prompt, params, lambda texts: [score(text) for text in texts])


def _hash(text: str) -> int:
    return hashlib.sha256(text.encode()).digest()[0]


def _first(prompt: Prompt, params: Params) -> str:
    return _answer(prompt, params, lambda texts: [9] + [3] * (len(texts) - 1))


def _unreadable(prompt: Prompt, params: Params) -> str:
    return "I would rather not say."


def _answer(prompt: Prompt, params: Params, judge: Callable[[list[str]], list[int]]) -> str:
    criteria, responses = _responses(prompt)
    labels, scores = [label for label, _ in responses], judge([text for _, text in responses])
    numbers = ", ".join(map(str, scores))
    if labels and not labels[0].isdecimal():
        numbers = labels[scores.index(max(scores))]
    if opened := _OPEN_BOX.search(prompt.continuation):
        return numbers.removeprefix(opened[1]) + "}"
    if prompt.continuation.endswith("Response") and labels:
        return f" {labels[scores.index(max(scores))]} is best."
    listed = (
        "1. A good response answers the question that was asked. (Weight: 60%)\n2. It is clear. (Weight: 40%)"
    )
    if not labels:
        # Requests for principles have a continuation, plain chats have none.
        return listed.removeprefix(prompt.continuation) if prompt.continuation else _draft(params.seed)
    analysis = "\n".join(f"Response {i} earns {s}." for i, s in enumerate(scores, 1))
    critique = f"{criteria}:\n{listed}\n\nAnalysis:\n{analysis}\n\nScores: \\boxed{{{numbers}}}"
    return critique.removeprefix(prompt.continuation)


def _draft(seed: int) -> str:
    """Return an answer to a plain chat; text and length depend on the seed."""
    points = [f"Point {i} of {seed % 1000}." for i in range(1, 2 + seed % 3)]
    return " ".join(("This answer was written by no model.", *points))


def _responses(prompt: Prompt) -> tuple[str, list[tuple[str, str]]]:
    """Return the prompt's name for criteria, and the labels and texts of its responses."""
    text = prompt.messages[-1].content
    for name, (opening, pattern) in _RESPONSE_PATTERNS.items():
        # Where a long text has no line like this, the pattern would be tried at each of its lines.
        if opening in text and (matches := pattern.findall(text)):
            return name, [(label, response.rstrip("\n")) for label, response in matches]
    return "", []


SCRIPTS: dict[str, Script] = {"content": _by_content, "first": _first, "unreadable": _unreadable}
