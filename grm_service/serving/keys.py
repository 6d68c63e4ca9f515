"""API keys: who may send requests, and how many. The file holds only hashes."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge, Le, Len
from filelock import FileLock
from pydantic import AfterValidator, StringConstraints, TypeAdapter, ValidationError
from ruamel.yaml import YAML

from grm_service.callers import Caller
from grm_service.errors import CatalogError
from grm_service.printable import is_printable
from grm_service.private_files import open_new, sync, sync_folder
from grm_service.profiles import yaml

MIN_WEIGHT, MAX_WEIGHT = 0.001, 1000.0
_STRICT = {"extra": "forbid", "strict": True}
_PREFIX = "grm_"


def _without_controls(name: str) -> str:
    if not is_printable(name):
        raise ValueError("control characters and characters that reorder text are refused in names")
    return name


@dataclass(frozen=True, slots=True)
class APIKey:
    """An entry of the keys file.

    `name`: the caller, who owns the verdicts of all keys that had this name. `weight`: the share of the
    engine while several callers wait. `max_requests`: at once (None: no limit). An `auditor` reads and
    reviews everybody's verdicts, others only their own.
    """

    __pydantic_config__: ClassVar = _STRICT
    name: Annotated[str, Len(1, 64), AfterValidator(_without_controls)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}\z")]
    weight: Annotated[float, Ge(MIN_WEIGHT), Le(MAX_WEIGHT)] = 1.0
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
    if len({key.sha256 for key in keys.keys}) < len(keys.keys):
        raise CatalogError(f"{path}: two names have the same key: remove one, and add it again")
    return keys


def add(
    path: Path, name: str, weight: float = 1.0, max_requests: int | None = None, auditor: bool = False
) -> str:
    """Create a key, store its hash in the file (new if missing), and return the key. Raises CatalogError."""
    key = _PREFIX + secrets.token_urlsafe(32)
    entry = _checked(APIKey(name, _digest(key), weight, max_requests, auditor))
    with _locked(path):
        known = load(path).keys if path.exists() and path.stat().st_size > 0 else ()
        if name in {key.name for key in known}:
            raise CatalogError(f"{path} has a key named {name!r}: remove it first, or use another name")
        _save(path, [*known, entry])
    return key


def remove(path: Path, name: str) -> None:
    """Remove a key by name. Raises CatalogError if there is none of that name."""
    with _locked(path):
        known = load(path).keys
        left = [key for key in known if key.name != name]
        if len(left) == len(known):
            raise CatalogError(f"{path} has no key named {name!r}")
        _save(path, left)


def _checked(entry: APIKey) -> APIKey:
    """Return the entry if a file may have it. Raises CatalogError."""
    try:
        return TypeAdapter(APIKey).validate_json(json.dumps(asdict(entry)))
    except ValidationError as invalid:
        faults = (f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in invalid.errors())
        raise CatalogError("; ".join(faults)) from None


def _digest(presented: str) -> str:
    # A key has 256 random bits, so a plain hash cannot be reversed by guessing.
    return hashlib.sha256(presented.encode("utf-8", "backslashreplace")).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of the file, so that of two changes at once neither is lost. Raises CatalogError."""
    if path.is_symlink():
        raise CatalogError(f"{path} is a symbolic link: set GRM_KEYS_FILE to the file itself")
    try:
        lock = FileLock(path.with_name(f".{path.name}.lock"), mode=0o600)
        with lock:
            yield
    except OSError as failed:
        raise CatalogError(f"{path} cannot be written: {failed}") from None


def _save(path: Path, keys: Sequence[APIKey]) -> None:
    """Replace the file at once, by a new one with mode 0600 that is on disk before it has the name."""
    listed = [{field: value for field, value in asdict(key).items() if value is not None} for key in keys]
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)  # of a process that was killed, or planted: it is never written to
    with open_new(partial) as new:
        try:
            YAML(typ="safe").dump({"keys": listed}, new)
            sync(new)
            load(partial)  # a file that cannot be read would lock everybody out
            partial.replace(path)
        except BaseException:
            partial.unlink()
            raise
    sync_folder(path.parent)
