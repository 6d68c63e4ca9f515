"""Finds, loads and fingerprints the YAML of models/ and principles/.

User directories come first, then what ships with the package. A file that is wrong stops the start
with file, line and field: a judge with half-read rules is worse than none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from grm_service.core.profile import PrincipleSet, Profile
from grm_service.errors import CatalogError, UnknownName

T = TypeVar("T")

_PACKAGE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Catalog:
    """Profiles and principle sets by name."""

    profiles: Mapping[str, Profile]
    principle_sets: Mapping[str, PrincipleSet]

    def profile(self, name: str) -> Profile:
        return _named(self.profiles, "profile", name)

    def principle_set(self, name: str) -> PrincipleSet:
        return _named(self.principle_sets, "principle set", name)


def load_catalog(models_dir: Path | None = None, principles_dir: Path | None = None) -> Catalog:
    """Everything in the shipped folders and the given ones; the given ones win. Raises CatalogError."""
    return Catalog(
        _load_all(Profile, _folders("models", models_dir)),
        _load_all(PrincipleSet, _folders("principles", principles_dir)),
    )


def load_profile(path: Path) -> Profile:
    """One profile from a file of any place (`grm serve --profile runs/x/profile.yaml`)."""
    return _load(Profile, path)


def fingerprint(profile: Profile) -> str:
    """Changes whenever anything in the profile does: `sha256:` of its canonical JSON."""
    canonical = json.dumps(asdict(profile), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def _named(known: Mapping[str, T], kind: str, name: str) -> T:
    if name not in known:
        raise UnknownName(kind, name, sorted(known))
    return known[name]


def _folders(kind: str, own: Path | None) -> list[Path]:
    if own is not None and not own.is_dir():
        raise CatalogError(f"{own} is not a folder (GRM_{kind.upper()}_DIR)")
    shipped = _PACKAGE / "_data" / kind
    # An editable checkout has no _data: the wheel build puts it there.
    return [shipped if shipped.is_dir() else _PACKAGE.parent / kind, *([own] if own else [])]


def _load_all(kind: type[T], folders: Iterable[Path]) -> dict[str, T]:
    found = {path.stem: _load(kind, path) for folder in folders for path in sorted(folder.glob("*.yaml"))}
    return dict(sorted(found.items()))


def _load(kind: type[T], path: Path) -> T:
    data = _read(path)
    try:
        loaded = TypeAdapter(kind).validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as wrong:
        raise CatalogError("\n".join(_described(path, data, error) for error in wrong.errors())) from None
    if data["name"] != path.stem:
        raise CatalogError(
            f"{path}:{_line(data, ('name',))}: name: {data['name']!r} must be the file's stem {path.stem!r}"
        )
    return loaded


def _read(path: Path) -> Any:
    try:
        # Round-trip mode keeps the line of every field and refuses duplicate keys.
        return YAML(typ="rt", pure=True).load(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as wrong:
        mark = wrong.problem_mark or wrong.context_mark
        raise CatalogError(f"{path}:{mark.line + 1 if mark else 1}: {wrong.problem}") from None
    except (OSError, UnicodeDecodeError) as wrong:
        raise CatalogError(f"{path}: cannot be read: {wrong}") from None


def _described(path: Path, data: Any, error: Mapping[str, Any]) -> str:
    field = ".".join(str(part) for part in error["loc"])
    message = "unknown field" if error["type"] == "unexpected_keyword_argument" else error["msg"]
    return f"{path}:{_line(data, error['loc'])}: {field or 'file'}: {message}"


def _line(data: Any, loc: tuple[int | str, ...]) -> int:
    """The line of the innermost part of `loc` that stands in the file."""
    line = 1
    for part in loc:
        marks = getattr(data, "lc", None)
        if marks is None or marks.data is None or part not in marks.data:
            break
        line = marks.data[part][0] + 1
        data = data[part]
    return line
