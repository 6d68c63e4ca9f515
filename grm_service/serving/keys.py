"""API keys: who may ask, and how much. The file holds their hashes only."""

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

from grm_service.errors import CatalogError
from grm_service.profiles import yaml
from grm_service.types import Caller

_STRICT = {"extra": "forbid", "strict": True}
_PREFIX = "grm_"


@dataclass(frozen=True, slots=True)
class APIKey:
    """`weight`: its caller's share of the engine where several wait; `max_requests` may be asked at once.

    An `auditor` reads and reviews everybody's verdicts, others their own.
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
        """Whose key it is; takes as long for a wrong one as for a right one."""
        digest, found = _digest(presented), None
        for key in self.keys:
            if hmac.compare_digest(key.sha256, digest):
                found = Caller(key.name, key.weight, key.max_requests, key.auditor)
        return found


def load(path: Path) -> Keys:
    """Raises CatalogError."""
    keys, _ = yaml.load(Keys, path)
    if len({key.name for key in keys.keys}) < len(keys.keys):
        raise CatalogError(f"{path}: two keys have one name")
    return keys


def add(
    path: Path, name: str, weight: float = 1.0, max_requests: int | None = None, auditor: bool = False
) -> str:
    """Makes a key, keeps its hash in the file, which need not be there yet, and returns the key itself."""
    known = load(path).keys if path.exists() else ()
    if name in {key.name for key in known}:
        raise CatalogError(f"{path} has a key named {name!r}: remove it first, or take another name")
    made = _PREFIX + secrets.token_urlsafe(32)
    _save(path, [*known, APIKey(name, _digest(made), weight, max_requests, auditor)])
    return made


def remove(path: Path, name: str) -> None:
    """Raises CatalogError where there is none of that name."""
    known = load(path).keys
    left = [key for key in known if key.name != name]
    if len(left) == len(known):
        raise CatalogError(f"{path} has no key named {name!r}")
    _save(path, left)


def _digest(presented: str) -> str:
    # A key has 256 bits of chance: nobody guesses it out of a plain hash.
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
