"""What the integrations have in common: whom to ask, and putting samples as requests."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import groupby, pairwise, starmap
from typing import Any

from grm_service.chat_templates import role_of
from grm_service.client import AsyncClient, Client, NoVerdict, Verdict
from grm_service.client.asynchronous import Query
from grm_service.errors import GRMError
from grm_service.types import Message

logger = logging.getLogger(__name__)
_MOST = 64
COLUMNS = ("principles", "reference")
"""Of a dataset, those that are sent along."""
Turn = Message | Mapping[str, Any]
Prompt = str | Sequence[Turn]


class NotConfigured(GRMError):
    """The environment does not say whom to ask."""

    code = "not_configured"


@cache
def service() -> AsyncClient:
    """The service that GRM_URL and GRM_KEY name; one client for the process. Raises NotConfigured."""
    return AsyncClient(*_named())


@cache
def blocking_service() -> Client:
    """The same for code that blocks."""
    return Client(*_named())


def _named() -> tuple[str, str | None]:
    if not (url := os.environ.get("GRM_URL")):
        raise NotConfigured("set GRM_URL to the service's address, such as http://127.0.0.1:8000")
    return url, os.environ.get("GRM_KEY") or None


async def judged(
    client: AsyncClient,
    prompts: Sequence[Prompt],
    completions: Sequence[Prompt],
    rows: Mapping[str, Sequence[Any]],
    options: Mapping[str, Any],
) -> list[tuple[range, Verdict | NoVerdict]]:
    """What became of each group of completions, which lie one after the other: where it lies, its verdict.

    `rows` are the dataset's columns, one value a completion.
    """
    said = [
        {"query": query(prompt), **columns({name: rows[name][i] for name in COLUMNS if name in rows})}
        for i, prompt in enumerate(prompts)
    ]
    together = groups(said)
    asked = [{**said[group[0]], "responses": [response(completions[i]) for i in group]} for group in together]
    answers = await client.batch(asked, **{"detail": "rewards", **options})
    for group, answer in zip(together, answers, strict=True):
        if isinstance(answer, NoVerdict):
            logger.warning("no reward for %d completions: %s", len(group), answer)
    return list(zip(together, answers, strict=True))


def groups(said: Sequence[Any]) -> list[range]:
    """Where the same stands several times in a row: one group, or several of like size, of at most 64."""
    found = []
    start = 0
    for _, same in groupby(said):
        n = len(list(same))
        parts = math.ceil(n / _MOST)
        bounds = [start + n * part // parts for part in range(parts + 1)]
        found += list(starmap(range, pairwise(bounds)))
        start += n
    return found


def query(prompt: Prompt) -> Query:
    """A prompt as the client takes it; of its messages only role and text are sent."""
    if isinstance(prompt, str):
        return prompt
    return [_turn(turn) for turn in prompt]


def _turn(turn: Turn) -> dict[str, str]:
    if isinstance(turn, Message):
        return {"role": turn.role, "content": turn.content}
    return {"role": role_of(turn["role"]), "content": text(turn.get("content"))}


def response(completion: Prompt) -> str:
    """A completion's text; of messages (a turn, or turns with tools between them) what the policy wrote."""
    if isinstance(completion, str):
        return completion
    turns = map(_turn, completion)
    return "\n\n".join(turn["content"] for turn in turns if turn["role"] == "assistant")


def text(content: str | Iterable[Mapping[str, Any]] | None) -> str:
    """A message's content, which may be parts of which only the texts are read."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part["text"] for part in content if "text" in part)


def columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a dataset's row says of judging: `reference`; `principles`, as a request has them or as texts."""
    said = {name: row[name] for name in COLUMNS if row.get(name) not in (None, "")}
    principles = said.get("principles")
    if isinstance(principles, Mapping):
        # A table has every field in every row.
        said["principles"] = {name: value for name, value in principles.items() if value is not None}
    elif principles is not None:
        said["principles"] = {"mode": "fixed", "items": [{"text": principle} for principle in principles]}
    return said


def reference(label: Any) -> dict[str, str]:
    """A sample's label, where it is a text: what the frameworks' own rewards compare with."""
    return {"reference": label} if isinstance(label, str) and label else {}
