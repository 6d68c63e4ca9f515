"""The key that seals where the trail begins and ends, so that a rewritten or shortened one is found."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from grm_service.errors import AuditUnavailable


@dataclass(frozen=True, slots=True)
class SealKey:
    """A secret of this service, best kept where the trail's database is not."""

    path: Path
    secret: bytes

    def seal(self, *parts: object) -> str:
        """`hmac-sha256:` + which key it was + its signature of the parts."""
        signed = "\n".join(map(str, parts)).encode()
        return f"{self._mark}{hmac.new(self.secret, signed, hashlib.sha256).hexdigest()}"

    def made(self, seal: str) -> bool:
        """Whether a seal names this key."""
        return seal.startswith(self._mark)

    @property
    def _mark(self) -> str:
        return f"hmac-sha256:{hashlib.sha256(self.secret).hexdigest()[:12]}:"


def key_of(path: Path) -> SealKey:
    """The key in a file, which is made where there is none. Raises AuditUnavailable."""
    path = path.expanduser()
    try:
        if not path.exists():
            _make(path)
        secret = path.read_bytes().strip()
    except OSError as failed:
        raise AuditUnavailable(f"the audit key cannot be read or made: {failed}") from None
    if len(secret) < 32:
        raise AuditUnavailable(f"{path} holds no audit key: at least 32 characters are needed")
    return SealKey(path, secret)


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    partial.touch(mode=0o600)
    partial.write_text(secrets.token_hex(32))
    try:
        os.link(partial, path)  # whoever is first has made it
    except FileExistsError:
        pass
    finally:
        partial.unlink()
