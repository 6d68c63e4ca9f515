"""API keys: who may send requests, and how many. The file holds only hashes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Len
from ruamel.yaml import YAML

from grm_service.callers import Caller
from grm_service.errors import CatalogError
from grm_service.profiles import yaml

_STRICT = {"extra": "forbid", "strict": True}
_PREFIX = "grm_"


@dataclass(frozen=True, slots=True)
class APIKey:
    """An entry of the keys file.

    `weight`: the share of the engine while several callers wait. `max_requests`: at once (None: no limit). An
    `auditor` reads and reviews everybody's verdicts, others only their own.
    """

    __pydantic_config__: ClassVar = _STRICT
    name: Annotated[str, Len(1, 64)]
    sha256: Annotated[str, Len(64, 64)]
    weight: Annotated[float, Gt(0)] = 1.0
    max_requests: Annotated[int, Ge(1)] | None = None
    auditor: bool = False


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a file."""

    __pydantic_config__: ClassVar = _STRICT
    keys: tuple[APIKey, ...] = ()

    def caller(self, presented: str) -> Caller | None:
        """Return the owner of a key, None if it is unknown; in constant time."""
        digest, owner = _digest(presented), None
        for key in self.keys:
            if hmac.compare_digest(key.sha256, digest):
                owner = Caller(key.name, key.weight, key.max_requests, key.auditor)
        return owner


def load(path: Path) -> Keys:
    """Return the keys of a file. Raises CatalogError."""
    keys, _ = yaml.load(Keys, path)
    if len({key.name for key in keys.keys}) < len(keys.keys):
        raise CatalogError(f"{path}: two keys have the same name")
    return keys


def add(
    path: Path, name: str, weight: float = 1.0, max_requests: int | None = None, auditor: bool = False
) -> str:
    """Create a key, store its hash in the file (new if missing), and return the key. Raises CatalogError."""
    known = load(path).keys if path.exists() else ()
    if name in {key.name for key in known}:
        raise CatalogError(f"{path} has a key named {name!r}: remove it first, or use another name")
    key = _PREFIX + secrets.token_urlsafe(32)
    _save(path, [*known, APIKey(name, _digest(key), weight, max_requests, auditor)])
    return key


def remove(path: Path, name: str) -> None:
    """Remove a key by name. Raises CatalogError if there is none of that name."""
    known = load(path).keys
    left = [key for key in known if key.name != name]
    if len(left) == len(known):
        raise CatalogError(f"{path} has no key named {name!r}")
    _save(path, left)


def _digest(presented: str) -> str:
    # A key has 256 random bits, so a plain hash cannot be reversed by guessing.
    return hashlib.sha256(presented.encode("utf-8", "backslashreplace")).hexdigest()


def _save(path: Path, keys: Sequence[APIKey]) -> None:
    listed = [{field: value for field, value in asdict(key).items() if value is not None} for key in keys]
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.touch(mode=0o600)
        YAML(typ="safe").dump({"keys": listed}, partial)
        partial.replace(path)
    except OSError as failed:
        raise CatalogError(f"{path} cannot be written: {failed}") from None
