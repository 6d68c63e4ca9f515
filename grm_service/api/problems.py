"""Errors as RFC 9457 problem details."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from grm_service.api.replies import Problem, SampleOut
from grm_service.errors import AllUnreadable, GRMError, Overloaded

logger = logging.getLogger(__name__)

_STATUS = {
    "unknown_profile": 404,
    "unknown_principle_set": 404,
    "profile_not_served": 409,
    "bad_request": 422,
    "soft_not_served": 422,
    "text_too_long": 422,
    "prompt_too_long": 422,
    "judge_failed": 502,
    "all_unreadable": 502,
    "principles_unreadable": 502,
    "engine_failed": 502,
    "engine_unreachable": 502,
    "not_ready": 503,
    "draining": 503,
    "overloaded": 429,
    "idempotency_key_reused": 422,
    "deadline_exceeded": 504,
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


def problem(
    status: int, code: str, detail: str, retryable: bool = False, retry_after_s: int = 1, **more: Any
) -> JSONResponse:
    """One problem+json answer; `retry_after_s` goes with 429 and 503, `more` are more members of Problem."""
    body = Problem(
        title=_TITLES.get(status, "Error"),
        status=status,
        detail=detail,
        code=code,
        retryable=retryable,
        **more,
    )
    headers = {"Retry-After": str(retry_after_s)} if status in (429, 503) else None
    content = body.model_dump(mode="json", exclude_none=True)
    if body.rewards is not None:
        content["rewards"] = body.rewards
    return JSONResponse(content, status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Makes every error of the app a problem."""
    app.add_exception_handler(GRMError, _grm_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


def _grm_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, GRMError)
    return problem_of(error)


def problem_of(error: GRMError) -> JSONResponse:
    """The answer to one of our own errors."""
    more: dict[str, Any] = {}
    if isinstance(error, AllUnreadable):
        samples = [SampleOut.of(s) for s in error.samples]
        n = len(error.samples[0].order)
        more = {"rewards": [None] * n, "reasons": error.reasons, "samples": samples}
    if isinstance(error, Overloaded):
        more = {"retry_after_s": error.retry_after_s}
    return problem(_STATUS.get(error.code, 500), error.code, str(error), error.retryable, **more)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return invalid(error.errors())


def invalid(found: Sequence[Any], root: tuple[str, ...] = ("body",)) -> JSONResponse:
    """The answer to what pydantic found wrong; `root` is what its places begin with.

    The input itself is left out: it may be huge, secret, or not even encodable.
    """
    errors = [{"field": _field(e, len(root)), "message": _message(e, len(root))} for e in found[:20]]
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


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    code = _TITLES.get(error.status_code, "Error").lower().replace(" ", "_")
    detail = str(error.detail)
    if error.status_code == 400:
        detail = "the body cannot be read: it must be JSON in UTF-8"
    if error.status_code == 404:
        detail = f"nothing at {request.url.path}; see /docs"
    return problem(error.status_code, code, detail)


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    return unexpected_problem(request.url.path, error)


def unexpected_problem(where: str, error: Exception) -> JSONResponse:
    """The answer to a bug of ours, which goes to the log."""
    logger.error("unexpected error on %s", where, exc_info=error)
    return problem(500, "internal", "an unexpected error; the server's log has it", retryable=True)
