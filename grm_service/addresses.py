"""Addresses of other servers as they may be shown: without user name and password."""

from __future__ import annotations

import re

# A password may have / ? # or a space in it, as none should: then what looks like the port is no number.
_UNQUOTED = r"[^/?#\s@:]*:(?!\d*(?:[/?#,\s]|$))[^/?#\s@]*[/?#\s].*@"
_CREDENTIALS = re.compile(rf"(?:(?<=://)|^)(?:[^/?#\s]*@|{_UNQUOTED})")

_MAX_CHARS = 4000


def without_credentials(text: str) -> str:
    """Return an address, or a text with addresses in it, without their user names and passwords.

    Only the first 4,000 characters are returned: errors quote what a server sends.
    """
    return _CREDENTIALS.sub("", text[:_MAX_CHARS])
