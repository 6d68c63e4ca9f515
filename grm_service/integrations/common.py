"""Shared by the integrations: the client from the environment, and the conversion of samples to requests."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import groupby, pairwise, starmap
from typing import Any

from grm_service.chat_templates import normalize_role
from grm_service.client import AsyncClient, Client, NoVerdict, Verdict
from grm_service.client.asynchronous import Query
from grm_service.errors import GRMError
from grm_service.types import Message

logger = logging.getLogger(__name__)
_MAX_GROUP = 64
COLUMNS = ("principles", "reference")
"""The dataset columns that are sent with a request."""
Turn = Message | Mapping[str, Any]
Prompt = str | Sequence[Turn]


class NotConfigured(GRMError):
    """GRM_URL is not set."""

    code = "not_configured"


@cache
def service() -> AsyncClient:
    """Return the process-wide client of the service at GRM_URL. Raises NotConfigured."""
    return AsyncClient(*_url_and_key())


@cache
def blocking_service() -> Client:
    """Return the process-wide blocking client of the service at GRM_URL. Raises NotConfigured."""
    return Client(*_url_and_key())


def _url_and_key() -> tuple[str, str | None]:
    if not (url := os.environ.get("GRM_URL")):
        raise NotConfigured("set GRM_URL to the URL of the service, such as http://127.0.0.1:8000")
    return url, os.environ.get("GRM_KEY") or None


async def judge_groups(
    client: AsyncClient,
    prompts: Sequence[Prompt],
    completions: Sequence[Prompt],
    rows: Mapping[str, Sequence[Any]],
    options: Mapping[str, Any],
) -> list[tuple[range, Verdict | NoVerdict]]:
    """Judge completions in groups, and return the range of each group with its verdict or failure.

    Consecutive completions with the same prompt and columns are a group. `rows` are the dataset's columns,
    one value per completion.
    """
    requests = [
        {"query": to_query(prompt), **row_fields({name: rows[name][i] for name in COLUMNS if name in rows})}
        for i, prompt in enumerate(prompts)
    ]
    groups = split_groups(requests)
    items = [
        {**requests[group[0]], "responses": [to_response(completions[i]) for i in group]} for group in groups
    ]
    results = await client.batch(items, **{"detail": "rewards", **options})
    for group, result in zip(groups, results, strict=True):
        if isinstance(result, NoVerdict):
            logger.warning("no reward for %d completions: %s", len(group), result)
    return list(zip(groups, results, strict=True))


def split_groups(requests: Sequence[Any]) -> list[range]:
    """Return the ranges of equal consecutive requests; more than 64 are split into ranges of similar size."""
    groups = []
    start = 0
    for _, same in groupby(requests):
        n = len(list(same))
        parts = math.ceil(n / _MAX_GROUP)
        bounds = [start + n * part // parts for part in range(parts + 1)]
        groups += list(starmap(range, pairwise(bounds)))
        start += n
    return groups


def to_query(prompt: Prompt) -> Query:
    """Return a prompt as the client accepts it: a text, or messages with role and content only."""
    if isinstance(prompt, str):
        return prompt
    return [_to_message(turn) for turn in prompt]


def _to_message(turn: Turn) -> dict[str, str]:
    if isinstance(turn, Message):
        return {"role": turn.role, "content": turn.content}
    return {"role": normalize_role(turn["role"]), "content": content_text(turn.get("content"))}


def to_response(completion: Prompt) -> str:
    """Return the text of a completion; of messages, with tool calls between them, only the assistant's."""
    if isinstance(completion, str):
        return completion
    turns = map(_to_message, completion)
    return "\n\n".join(turn["content"] for turn in turns if turn["role"] == "assistant")


def content_text(content: str | Iterable[Mapping[str, Any]] | None) -> str:
    """Return the content of a message as text; of a list of parts, only the text parts."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part["text"] for part in content if "text" in part)


def row_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request fields in a dataset row: `reference`, `principles` (texts, or as in a request)."""
    fields = {name: row[name] for name in COLUMNS if row.get(name) not in (None, "")}
    principles = fields.get("principles")
    if isinstance(principles, Mapping):
        # Arrow tables have every key in every row, with None for the missing ones.
        fields["principles"] = {name: value for name, value in principles.items() if value is not None}
    elif principles is not None:
        fields["principles"] = {"mode": "fixed", "items": [{"text": principle} for principle in principles]}
    return fields


def reference_field(label: Any) -> dict[str, str]:
    """Return the request field for a sample's label: `reference` if it is a text, else nothing."""
    return {"reference": label} if isinstance(label, str) and label else {}
