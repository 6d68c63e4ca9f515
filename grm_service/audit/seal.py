"""The key that seals both ends of the trail, so that a rewritten or truncated trail does not verify."""

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
    """A secret of this service; store it apart from the trail's database."""

    path: Path
    secret: bytes

    def seal(self, *parts: object) -> str:
        """Return `hmac-sha256:<key id>:<signature of the parts>`."""
        signed = "\n".join(map(str, parts)).encode()
        return f"{self._prefix}{hmac.new(self.secret, signed, hashlib.sha256).hexdigest()}"

    def is_key_of(self, seal: str) -> bool:
        """Return whether a seal carries this key's id."""
        return seal.startswith(self._prefix)

    @property
    def _prefix(self) -> str:
        return f"hmac-sha256:{hashlib.sha256(self.secret).hexdigest()[:12]}:"


def load_key(path: Path) -> SealKey:
    """Load the key from a file, which is created if it does not exist. Raises AuditUnavailable."""
    path = path.expanduser()
    try:
        if not path.exists():
            _create(path)
        secret = path.read_bytes().strip()
    except OSError as failed:
        raise AuditUnavailable(f"the audit key cannot be read or created: {failed}") from None
    if len(secret) < 32:
        raise AuditUnavailable(f"{path} is not an audit key: a key has at least 32 characters")
    return SealKey(path, secret)


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    partial.touch(mode=0o600)
    partial.write_text(secrets.token_hex(32))
    try:
        os.link(partial, path)  # atomic: if several processes start at once, the first one wins
    except FileExistsError:
        pass
    finally:
        partial.unlink()
