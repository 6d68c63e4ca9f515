"""What is raised where there is no verdict."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from grm_service.backoff import asked_s
from grm_service.errors import GRMError

_BUSY = (408, 429, 503)
_PROXY = (502, 503, 504)
_TRIES = 3


class NoVerdict(GRMError):
    """The service gave no verdict, so no response has a reward: not 0, none.

    `code` is the service's (docs/failure-codes.md) with its HTTP `status`, or one of the client's own:
    "unreachable" (nothing of the service answers there), "out_of_time" (connected, and no answer in time),
    "unreadable_reply" (an answer that is no verdict) and "invalid_request" (it cannot be written as JSON).
    `reasons` counts why samples could not be read, where that is what happened. `retry_after_s`: seconds that
    the service asked to wait, 0 where it did not.
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
        """Whether the service was too busy, or not ready, to begin with it."""
        return self.status in _BUSY

    def worth_another(self, tries: int) -> bool:
        """Whether to ask again after so many tries: as long as there is time where nothing was judged, a few
        times where judging failed, since that costs as much again.
        """
        untouched = self.code == "unreachable" or self.refused
        return self.retryable and (untouched or tries < _TRIES)


def failure(reply: httpx.Response) -> NoVerdict:
    """What an answer other than 200 says."""
    status, pause_s = reply.status_code, asked_s(reply.headers.get("retry-after"))
    try:
        said = reply.json()
        code, detail, retryable = said["code"], said["detail"], said["retryable"]
        return NoVerdict(code, detail, status, retryable, said.get("reasons"), pause_s)
    except (ValueError, TypeError, KeyError):
        detail = f"{reply.url} answered {status}, not in the service's words: {_beginning(reply)}"
    if status in _PROXY:
        return NoVerdict("unreachable", detail, status, retryable=True, retry_after_s=pause_s)
    return NoVerdict("unreadable_reply", detail, status, status == 429, retry_after_s=pause_s)


def unreadable(reply: httpx.Response, why: Exception) -> NoVerdict:
    """An answer of 200 that is no verdict."""
    detail = f"{reply.url} answered with something that is no verdict ({why!r}): {_beginning(reply)}"
    return NoVerdict("unreadable_reply", detail, reply.status_code)


def _beginning(reply: httpx.Response) -> str:
    return " ".join(reply.text[:1000].split())[:200]
