"""The exception of the client."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from grm_service import backoff
from grm_service.addresses import without_credentials
from grm_service.errors import GRMError

_BUSY = (408, 429, 503)
_PROXY = (502, 503, 504)
_TRIES = 3


class NoVerdict(GRMError):
    """The service returned no verdict, so the responses have no rewards.

    `code` is the service's (docs/failure-codes.md) with its HTTP `status`, or one of the client's own:
    "unreachable" (no service answers at the URL), "out_of_time" (connected, but no answer in time),
    "unreadable_reply" (the answer is not a verdict) or "invalid_request" (it cannot be encoded as JSON).
    `reasons` counts why samples could not be parsed, if that is the cause. `retry_after_s`: the seconds that
    the service requires before a retry, or 0.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        status: int | None = None,
        retryable: bool = False,
        reasons: Mapping[str, int] | None = None,
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail, self.status = code, detail, status
        self.retryable, self.reasons = retryable, dict(reasons or {})
        self.retry_after_s = retry_after_s

    @property
    def refused(self) -> bool:
        """True if the service was too busy or not ready, so that nothing was judged."""
        return self.status in _BUSY

    def worth_another(self, tries: int) -> bool:
        """Return True if a retry is due after this number of tries.

        Without limit if nothing was judged, up to three tries if judging failed, since each costs as much
        as the first.
        """
        untouched = self.code == "unreachable" or self.refused
        return self.retryable and (untouched or tries < _TRIES)


def parse_failure(reply: httpx.Response) -> NoVerdict:
    """Return the failure that a reply with another status than 200 describes."""
    status, retry_after_s = reply.status_code, backoff.retry_after_s(reply.headers.get("retry-after"))
    try:
        problem = reply.json()
        code, detail, retryable = problem["code"], problem["detail"], problem["retryable"]
        return NoVerdict(code, detail, status, retryable, problem.get("reasons"), retry_after_s)
    except (ValueError, TypeError, KeyError):
        what = f"answered {status}, but not with problem details of grm-service"
        detail = f"{_address(reply)} {what}: {_excerpt(reply)}"
    if status in _PROXY:
        return NoVerdict("unreachable", detail, status, retryable=True, retry_after_s=retry_after_s)
    return NoVerdict("unreadable_reply", detail, status, status == 429, retry_after_s=retry_after_s)


def unreadable_reply(reply: httpx.Response, error: Exception) -> NoVerdict:
    """Return the failure for a reply with status 200 that cannot be parsed."""
    what = f"answered with something other than a verdict ({error!r})"
    detail = f"{_address(reply)} {what}: {_excerpt(reply)}"
    return NoVerdict("unreadable_reply", detail, reply.status_code)


def _address(reply: httpx.Response) -> str:
    return without_credentials(str(reply.url))


def _excerpt(reply: httpx.Response) -> str:
    return " ".join(reply.text[:1000].split())[:200]
