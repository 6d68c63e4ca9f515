"""Addresses of other servers as they may be shown: without user name and password."""

from __future__ import annotations

import re

_CREDENTIALS = re.compile(r"(?:(?<=://)|^)[^/?#\s]*@")


def without_credentials(text: str) -> str:
    """Return an address, or a text with addresses in it, without their user names and passwords."""
    return _CREDENTIALS.sub("", text)
