"""Errors as RFC 9457 problem details."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import Receive, Scope, Send

from grm_service.api.replies import Problem
from grm_service.api.samples import SampleOut
from grm_service.errors import AllUnreadable, GRMError, Overloaded

logger = logging.getLogger(__name__)

_STATUS = {
    "unknown_profile": 404,
    "unknown_principle_set": 404,
    "unknown_verdict": 404,
    "read_too_long": 422,
    "profile_not_served": 409,
    "bad_request": 422,
    "soft_not_served": 422,
    "meta_rm_not_served": 422,
    "text_too_long": 422,
    "too_much_text": 422,
    "prompt_too_long": 422,
    # 4xx, since trainers' clients repeat a request after any 5xx.
    "upstream_refused": 422,
    "content_filtered": 422,
    "upstream_denied": 422,
    "judge_failed": 502,
    "all_unreadable": 502,
    "principles_unreadable": 502,
    "response_unread": 502,
    "siblings_missing": 503,
    "engine_failed": 502,
    "engine_unreachable": 502,
    "meta_rm_failed": 502,
    "policy_failed": 502,
    "not_ready": 503,
    "draining": 503,
    "audit_unavailable": 503,
    "temporary_storage_full": 503,
    "audit_broken": 503,
    "overloaded": 429,
    "idempotency_key_reused": 422,
    "deadline_exceeded": 504,
}
_CODES = {
    400: "unreadable_body",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    413: "too_large",
    422: "invalid_request",
    499: "client_gone",
}
_TITLES = {404: "Not found", 409: "Conflict", 413: "Too large", 422: "Invalid request", 500: "Internal error"}
_TITLES |= {
    400: "Bad request",
    401: "Unauthorized",
    405: "Method not allowed",
    408: "Too slow",
    415: "Unsupported media type",
    429: "Overloaded",
    502: "No verdict",
    503: "Not ready",
    504: "Out of time",
}


class ProblemReply(JSONResponse):
    """A problem+json reply; middleware reads its `code`, and a finer `reason` if there is one."""

    media_type = "application/problem+json"
    code: str
    reason: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["problem"] = self
        await super().__call__(scope, receive, send)


def problem(
    status: int,
    code: str,
    detail: str,
    retryable: bool = False,
    retry_after_s: int = 1,
    reason: str | None = None,
    **more: Any,
) -> ProblemReply:
    """Return a problem+json reply; `retry_after_s` is for 429 and 503, `more` are other fields of Problem."""
    body = Problem(
        title=_TITLES.get(status, "Error"),
        status=status,
        detail=detail,
        code=code,
        retryable=retryable,
        **more,
    )
    headers = {"Retry-After": str(retry_after_s)} if status in (429, 503) else None
    content = {name: value for name, value in body.model_dump(mode="json").items() if value is not None}
    reply = ProblemReply(content, status, headers)
    reply.code, reply.reason = code, reason or code
    return reply


def install(app: FastAPI) -> None:
    """Reply to every error of the app with a problem."""
    app.add_exception_handler(GRMError, _grm_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(StarletteHTTPException, _http_error)


def _grm_error(request: Request, error: Exception) -> ProblemReply:
    assert isinstance(error, GRMError)
    return problem_of(error)


def problem_of(error: GRMError, /, **members: Any) -> ProblemReply:
    """Return the problem of an error of errors.py; `members` are other fields of Problem."""
    more: dict[str, Any] = {}
    if isinstance(error, AllUnreadable):
        samples = [SampleOut.of(s) for s in error.samples]
        n = 1 + max(max(sample.order) for sample in error.samples)
        more = {"rewards": [None] * n, "reasons": error.reasons, "samples": samples}
    if isinstance(error, Overloaded):
        more = {"retry_after_s": error.retry_after_s}
    status = _STATUS.get(error.code, 500)
    return problem(status, error.code, str(error), error.retryable, reason=error.label, **more, **members)


def _invalid(request: Request, error: Exception) -> ProblemReply:
    assert isinstance(error, RequestValidationError)
    return invalid(error.errors())


def invalid(details: Sequence[Any], root: tuple[str, ...] = ("body",)) -> ProblemReply:
    """Return the problem of pydantic's error details; `root` is the prefix of their locations.

    The input itself is left out: it may be huge, secret, or not even encodable.
    """
    errors = [{"field": _field(e, len(root)), "message": _message(e, len(root))} for e in details[:20]]
    detail = "; ".join(f"{e['field']}: {e['message']}" if e["field"] else e["message"] for e in errors[:5])
    return problem(422, "invalid_request", detail, errors=errors)


def _field(error: dict[str, Any], root: int) -> str:
    parts = () if error["type"] == "json_invalid" else error["loc"][root:]
    name = ".".join(str(part) for part in parts)[:200]
    return name.encode("utf-8", "backslashreplace").decode()


def _message(error: dict[str, Any], root: int) -> str:
    if error["type"] == "json_invalid":
        return f"the body is not JSON: {error.get('ctx', {}).get('error', 'it cannot be parsed')}"
    if error["type"] in ("model_attributes_type", "model_type"):
        return "must be a JSON object" + (
            " (with Content-Type: application/json)" if len(error["loc"]) == root > 0 else ""
        )
    if error["type"] == "extra_forbidden":
        return "unknown field"
    if error["type"] == "string_unicode":
        return "contains a lone surrogate: remove it"
    return str(error["msg"]).removeprefix("Value error, ")


def _http_error(request: Request, error: Exception) -> ProblemReply:
    assert isinstance(error, StarletteHTTPException)
    detail = str(error.detail)
    if detail == "There was an error parsing the body":  # FastAPI's message
        detail = "the body cannot be read: it must be JSON in UTF-8"
    if error.status_code == 404:
        detail = f"nothing at {request.url.path}; see /docs"
    status = error.status_code
    answer = problem(status, _CODES.get(status, GRMError.code), detail, retryable=status == 408)
    answer.headers.update(error.headers or {})
    return answer


def unexpected_problem(where: str, error: Exception) -> ProblemReply:
    """Log an unexpected exception and return its problem."""
    logger.error("unexpected error on %s", where, exc_info=error)
    return problem(500, "internal", "unexpected error, see the server log", retryable=True)
