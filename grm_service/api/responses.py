"""Replies in the OpenAPI document: the problems of a route by status, and an example of each reply."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grm_service.api.problems import ProblemReply, invalid, problem, problem_of
from grm_service.errors import (
    AuditUnavailable,
    DeadlineExceeded,
    EngineNotReady,
    EngineUnreachable,
    Overloaded,
    ProfileNotServed,
    ReadTooLong,
    UnknownName,
    UnknownVerdict,
)

Responses = dict[int | str, dict[str, Any]]
EVENTS = "text/event-stream"
_EXAMPLES: dict[str, Any] = json.loads((Path(__file__).parent / "example_replies.json").read_bytes())

_PROBLEMS: dict[int, tuple[str, ProblemReply]] = {
    400: (
        "The body is not UTF-8, not valid gzip, or nested too deep.",
        problem(400, "unreadable_body", "the body cannot be read: it must be JSON in UTF-8"),
    ),
    401: (
        "The API key is missing or unknown; or the server has no keys and the Host header is not local.",
        problem(401, "unauthorized", "this API key is unknown"),
    ),
    404: (
        "Unknown name; the detail lists the known ones.",
        problem_of(UnknownName("profile", "generic", ["generic-judge", "qwen-judge"])),
    ),
    408: (
        "The body arrived too slowly.",
        problem(
            408,
            "too_slow",
            "the body arrived too slowly: nothing for 30 s, or less than 4096 bytes per second after 30 s",
            retryable=True,
        ),
    ),
    409: (
        "The profile is for a different model than this server runs.",
        problem_of(
            ProfileNotServed(
                "profile 'deepseek-grm-27b' is for the model BBQGOD/DeepSeek-GRM-27B, but this server runs "
                "BBQGOD/DeepSeek-GRM-16B: start one with --profile deepseek-grm-27b"
            )
        ),
    ),
    413: (
        "The body is too large.",
        problem(
            413,
            "too_large",
            "the body is larger than 8388608 bytes (GRM_MAX_BODY_BYTES, GRM_MAX_BATCH_BYTES)",
        ),
    ),
    415: (
        "The Content-Encoding is not supported (only gzip is).",
        problem(
            415,
            "unsupported_encoding",
            "Content-Encoding 'br' is not supported: send the body uncompressed or as gzip",
        ),
    ),
    422: (
        "The request is invalid, or the model's server refuses it for good; nothing was judged.",
        invalid([{"type": "missing", "loc": ("body", "responses"), "msg": "Field required"}]),
    ),
    429: (
        "The queue is full; retry after Retry-After seconds.",
        problem_of(Overloaded(waiting=2048, retry_after_s=7)),
    ),
    502: (
        "No sample could be read (rewards are null), or the engine failed.",
        problem_of(EngineUnreachable("http://vllm:8000/v1 did not answer in time")),
    ),
    503: (
        "Not ready: the model is loading, the engine restarts, the server stops or is out of room.",
        problem_of(EngineNotReady("the model is still loading; see /readyz")),
    ),
    504: (
        "Time ran out before the first sample.",
        problem_of(DeadlineExceeded("time ran out before any of the 8 samples was finished")),
    ),
}
_TRAIL_PROBLEMS: dict[int, tuple[str, ProblemReply]] = {
    404: (
        "Unknown verdict, or another caller's.",
        problem_of(
            UnknownVerdict("no verdict 'vd_0' of yours in the audit trail; GET /v1/verdicts lists yours")
        ),
    ),
    422: (
        "A parameter is invalid, or reading the audit trail took too long.",
        problem_of(
            ReadTooLong(
                "reading the audit trail for this request took over 10 s: narrow it with profile, status or "
                "before, or let it read fewer verdicts"
            )
        ),
    ),
    503: (
        "The audit trail cannot be read or written.",
        problem_of(AuditUnavailable("a write to the audit trail took over 15 s")),
    ),
}
BODY = (400, 408, 413, 415, 422)
"""The statuses of a bad body."""


def documented(*statuses: int, of_trail: bool = False) -> Responses:
    """Return the description of problem replies with these statuses; `of_trail`: by routes of the trail."""
    table = _PROBLEMS | _TRAIL_PROBLEMS if of_trail else _PROBLEMS
    return {status: _described(*table[status]) for status in statuses}


def _described(meaning: str, example: ProblemReply) -> dict[str, Any]:
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": json.loads(bytes(example.body))}
    return {"description": meaning, "content": {"application/problem+json": content}}


JUDGING = documented(401, 404, 409, *BODY, 429, 502, 503, 504)
"""The problems of a route that judges."""


def example(path: str, *more: str, status: int = 200, media_type: str = "application/json") -> Responses:
    """Return the example reply of a route, for merging into its description; `more` are other media types."""
    content: dict[str, Any] = {media_type: {"example": _EXAMPLES.get(path)}}
    return {status: {"content": content | {other: {} for other in more}}}
