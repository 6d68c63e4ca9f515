"""The text of log lines: without API keys and control characters, and bounded in length."""

from __future__ import annotations

import logging
import re
import traceback

from grm_service.printable import printable, printable_line

MAX_CHARS = 8000
# As serving/keys.py creates them, with some characters less, since others may shorten what they quote.
_KEY = re.compile(r"grm_[A-Za-z0-9_-]{32,}")


def holds_key(text: str) -> bool:
    """Return whether a text contains an API key."""
    return _KEY.search(text) is not None


class SafeLines(logging.Filter):
    """Makes the message of a record safe to log, and its traceback, of which it leaves out the middle."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable_line(_safe(record.getMessage())), None
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = printable(_safe("".join(traceback.format_exception(*record.exc_info)).rstrip()))
            record.exc_info = None
        return True


def _safe(text: str) -> str:
    text = _KEY.sub("grm_[removed]", text)
    if len(text) <= MAX_CHARS:
        return text
    half = MAX_CHARS // 2
    return f"{text[:half]} [{len(text) - 2 * half} characters left out] {text[-half:]}"


SAFE_LINES = SafeLines()
"""The filter for every handler of the process."""
