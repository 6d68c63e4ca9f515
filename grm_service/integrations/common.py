"""Shared by the integrations: the client from the environment, and the conversion of samples to requests."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import groupby, pairwise, starmap
from typing import Any

from grm_service import chat_templates, content
from grm_service.client import AsyncClient, Client, NoVerdict, Verdict
from grm_service.client.asynchronous import Query, Response
from grm_service.errors import GRMError
from grm_service.plain_values import to_json, to_reference

logger = logging.getLogger(__name__)
_MAX_GROUP = 64
COLUMNS = ("principles", "reference")
"""The dataset columns that are sent with a request."""


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
    prompts: Sequence[Query],
    completions: Sequence[Response],
    rows: Mapping[str, Sequence[Any]],
    options: Mapping[str, Any],
) -> list[tuple[Sequence[int], Verdict | NoVerdict]]:
    """Judge completions in groups, and return the indices of each group with its verdict or failure.

    Consecutive completions with the same prompt and columns are a group. `rows` are the dataset's columns,
    one value per completion. A completion that cannot be sent, such as null, is a group of its own with the
    failure, and the others are judged.
    """
    results: list[tuple[Sequence[int], Verdict | NoVerdict]] = []
    readable, requests, responses = list[int](), list[dict[str, Any]](), list[str]()
    for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        try:
            row = {name: rows[name][i] for name in COLUMNS if name in rows}
            request, response = {"query": to_query(prompt), **row_fields(row)}, to_response(completion)
        except NoVerdict as failure:
            results.append(([i], failure))
            continue
        readable.append(i)
        requests.append(request)
        responses.append(response)
    groups = split_groups(requests)
    items = [{**requests[group[0]], "responses": responses[group.start : group.stop]} for group in groups]
    verdicts = await client.batch(items, **{"detail": "rewards", **options})
    results += [
        (readable[group.start : group.stop], verdict) for group, verdict in zip(groups, verdicts, strict=True)
    ]
    for group, result in results:
        if isinstance(result, NoVerdict):
            logger.warning("no reward for %d completions: %s", len(group), result)
    return results


def rewards_in_order(
    results: Sequence[tuple[Sequence[int], Verdict | NoVerdict]], may_fail: bool
) -> list[float | None]:
    """Return the rewards of `judge_groups` in the order of the completions, None where judging failed.

    Raises NoVerdict for the first failure unless `may_fail`.
    """
    rewards = dict[int, float | None]()
    for group, result in results:
        if isinstance(result, NoVerdict) and not may_fail:
            raise result
        values = [None] * len(group) if isinstance(result, NoVerdict) else result.rewards
        rewards.update(zip(group, values, strict=True))
    return [rewards[i] for i in range(len(rewards))]


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


@contextmanager
def _sendable() -> Iterator[None]:
    """Turn NotText into the failure that every integration handles."""
    try:
        yield
    except content.NotText as error:
        raise NoVerdict("invalid_request", str(error)) from None


def to_query(prompt: Query) -> Query:
    """Return a prompt as the client accepts it: a text, or messages with role and text. Raises NoVerdict."""
    with _sendable():
        messages = content.to_messages(prompt, lenient=True)
    if isinstance(prompt, str):
        return prompt
    return [{"role": message.role, "content": message.content} for message in messages]


def to_response(completion: Response) -> str:
    """Return a completion as text: tool calls, their results and the assistant's turns. Raises NoVerdict."""
    with _sendable():
        return content.to_response(completion, lenient=True)


def without_end_tokens(completion: Response) -> Response:
    """Return a completion without the control tokens at the end of a text; other shapes are unchanged."""
    return chat_templates.strip_end_tokens(completion) if isinstance(completion, str) else completion


def row_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request fields in a dataset row: `reference`, `principles` (texts, or as in a request).

    Raises NoVerdict.
    """
    with _sendable():
        principles = to_json(row.get("principles"))
    fields = reference_field(row.get("reference"))
    if isinstance(principles, dict):
        fields["principles"] = principles
    elif principles:
        texts = principles if isinstance(principles, list) else [principles]
        items = [text if isinstance(text, dict) else {"text": text} for text in texts]
        fields["principles"] = {"mode": "fixed", "items": items}
    return fields


def reference_field(label: Any) -> dict[str, Any]:
    """Return the request field for a sample's label, nothing if it is none. Raises NoVerdict."""
    with _sendable():
        reference = to_reference(label)
    return {} if reference is None else {"reference": reference}
