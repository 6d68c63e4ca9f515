"""The key that seals both ends of the trail, so that a rewritten or truncated trail does not verify."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from grm_service.errors import AuditUnavailable
from grm_service.private_files import make_folder, make_private, read_regular, write_atomically


@dataclass(frozen=True, slots=True)
class SealKey:
    """A secret of this service; store it apart from the trail's database."""

    path: Path
    secret: bytes

    def seal(self, *parts: object) -> str:
        """Return `hmac-sha256:<key id>:<signature of the parts>`."""
        signed = "\n".join(map(str, parts)).encode()
        return f"{self._prefix}{hmac.new(self.secret, signed, hashlib.sha256).hexdigest()}"

    def has_sealed(self, seal: str, *parts: object) -> bool:
        """Return whether `seal` is this key's seal of the parts."""
        return hmac.compare_digest(seal.encode(), self.seal(*parts).encode())

    def is_key_of(self, seal: str) -> bool:
        """Return whether a seal carries this key's id."""
        return seal.startswith(self._prefix)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Exclude other processes that use the same key file. Raises OSError."""
        with self.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
            yield

    @property
    def _prefix(self) -> str:
        return f"hmac-sha256:{hashlib.sha256(self.secret).hexdigest()[:12]}:"


def load_key(path: Path, create: bool) -> SealKey:
    """Load the key from a file; with `create`, create it if it does not exist. Raises AuditUnavailable."""
    path = path.expanduser()
    try:
        if create and not path.exists():
            make_folder(path.parent)
            write_atomically(path, secrets.token_hex(32), replace=False)
        secret = read_regular(path).strip()
    except FileNotFoundError:
        raise AuditUnavailable(f"there is no audit key at {path}: set GRM_AUDIT_KEY_FILE") from None
    except OSError as failed:
        raise AuditUnavailable(f"the audit key cannot be read or created: {failed}") from None
    if len(secret) < 32:
        raise AuditUnavailable(f"{path} is not an audit key: a key has at least 32 characters")
    if create:
        make_private(path)
    return SealKey(path, secret)
