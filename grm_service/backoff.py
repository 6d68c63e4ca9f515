"""How long to wait before another try."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_LONGEST_S = 10.0


def asked_s(retry_after: str | None) -> float:
    """Seconds that a Retry-After header asks for: it holds seconds or an HTTP date."""
    if retry_after is None:
        return 0.0
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        until = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def pause_s(asked_s: float, attempt: int) -> float:
    """At least what the server asks for, else doubling; jitter, so that callers do not return all at once."""
    return max(asked_s, min(0.25 * 2.0**attempt, _LONGEST_S)) * random.uniform(1.0, 1.25)
