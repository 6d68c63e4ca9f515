"""Delays between tries of a request: Retry-After headers, and exponential backoff with jitter."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_MAX_S = 10.0


def retry_after_s(header: str | None) -> float:
    """Return the seconds to wait by a Retry-After header, which holds seconds or an HTTP date.

    0 if the header is missing or malformed, or if its date has passed.
    """
    if header is None:
        return 0.0
    if header.isascii() and header.strip().isdigit():
        return float(header)
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def pause_s(min_s: float, attempt: int) -> float:
    """Return the seconds to wait after a failed attempt: they double with `attempt`, up to 10, plus jitter.

    Never less than `min_s`, which is what the server requires. The jitter keeps callers from returning all at
    once.
    """
    return max(min_s, min(0.25 * 2.0**attempt, _MAX_S)) * random.uniform(1.0, 1.25)
