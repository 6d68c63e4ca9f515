"""Finds, loads and fingerprints the YAML of models/ and principles/.

User directories come first, then what ships with the package. A file that is wrong stops the start
with file, line and field: a judge with half-read rules is worse than none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from grm_service.errors import CatalogError, UnknownName
from grm_service.profiles import yaml
from grm_service.profiles.profile import PrincipleSet, Profile
from grm_service.types import Principle

T = TypeVar("T")
Kind = TypeVar("Kind", Profile, PrincipleSet)

_PACKAGE = Path(__file__).parents[1]


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
    """One profile from a file of any place and any name (`grm serve --profile runs/x/profile.yaml`).

    A model, meta RM or adapter that begins with `./` lies beside the file.
    """
    loaded, _ = yaml.load(Profile, path)
    return _beside(loaded, path)


def load_principles(path: Path) -> tuple[PrincipleSet, list[int]]:
    """One set from a file of any place, with the line of each of its principles. Raises CatalogError."""
    loaded, line = _checked(PrincipleSet, path)
    return loaded, [line("principles", i) for i in range(len(loaded.principles))]


def principle_files(principles_dir: Path | None = None) -> dict[str, Path]:
    """The file of each set by its name, the given folder's first. Raises CatalogError."""
    return {path.stem: path for path in _files(_folders("principles", principles_dir))}


def fingerprint(value: Profile | Sequence[Principle]) -> str:
    """Changes whenever anything in the profile or the principles does: `sha256:` of its canonical JSON.

    An adapter is known by its own hash, wherever it lies.
    """
    if isinstance(value, Profile) and value.adapter:
        value = replace(value, adapter=replace(value.adapter, folder=""))
    return _hashed(value)


def form(profile: Profile) -> str:
    """The fingerprint of what a checkpoint is trained to: all of the profile that shapes what it reads and
    writes, and neither its name nor where the model is.
    """
    return _hashed({name: getattr(profile, name) for name in _SHAPING})


def mismatch(profile: Profile, model: Path) -> str | None:
    """Why a model that `grm train` wrote is not for the profile; None where nothing is known of it."""
    try:
        trained = json.loads((model.parent / MANIFEST).read_text(encoding="utf-8"))
        was, name = trained["form"], trained["profile"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if was == form(profile):
        return None
    return (
        f"{model} was trained with the prompt and form that {name} had then ({was}), not with those of "
        f"{profile.name} ({form(profile)}), so its rewards mean little: use {model.parent / 'profile.yaml'}"
    )


MANIFEST = "manifest.json"
"""Lies beside such a model, and says what it was trained to."""
_SHAPING = ("prompt", "scale", "sections", "opening", "closing", "control_tokens")


def _hashed(value: object) -> str:
    canonical = json.dumps(value, default=asdict, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def _beside(profile: Profile, path: Path) -> Profile:
    def found(name: str) -> str:
        return str((path.parent / name).resolve()) if name.startswith("./") else name

    return replace(
        profile,
        model=profile.model and found(profile.model),
        meta_rm=profile.meta_rm and found(profile.meta_rm),
        adapter=profile.adapter and replace(profile.adapter, folder=found(profile.adapter.folder)),
    )


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


def _load_all(kind: type[Kind], folders: Iterable[Path]) -> dict[str, Kind]:
    found = {path.stem: _load(kind, path) for path in _files(folders)}
    return dict(sorted(found.items()))


def _files(folders: Iterable[Path]) -> list[Path]:
    return [path for folder in folders for path in sorted(folder.glob("*.yaml"))]


def _load(kind: type[Kind], path: Path) -> Kind:
    loaded, _ = _checked(kind, path)
    return _beside(loaded, path) if isinstance(loaded, Profile) else loaded


def _checked(kind: type[Kind], path: Path) -> tuple[Kind, Callable[..., int]]:
    loaded, line = yaml.load(kind, path)
    if loaded.name != path.stem:
        raise CatalogError(
            f"{path}:{line('name')}: name: {loaded.name!r} must be the file's stem {path.stem!r}"
        )
    return loaded, line
