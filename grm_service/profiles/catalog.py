"""The catalog: profiles and principle sets loaded from YAML, and their fingerprints.

Files in the user's folders override built-in ones of the same name. An invalid file stops the start with an
error that names file, line and field.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TypeVar

from grm_service.errors import CatalogError, UnknownName
from grm_service.printable import is_printable
from grm_service.profiles import yaml
from grm_service.profiles.profile import PrincipleSet, Profile, ThinkingSettings
from grm_service.types import Principle

T = TypeVar("T")
Kind = TypeVar("Kind", Profile, PrincipleSet)

Check = Callable[[Profile], tuple[tuple[str, str], str] | None]
"""Returns the path of a profile's faulty field and what is wrong with it, None if nothing is."""

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Catalog:
    """Profiles and principle sets by name."""

    profiles: Mapping[str, Profile]
    principle_sets: Mapping[str, PrincipleSet]

    def profile(self, name: str) -> Profile:
        """Return a profile by name. Raises UnknownName."""
        return _lookup(self.profiles, "profile", name)

    def principle_set(self, name: str) -> PrincipleSet:
        """Return a principle set by name. Raises UnknownName."""
        return _lookup(self.principle_sets, "principle set", name)


def load_catalog(
    models_dir: Path | None = None, principles_dir: Path | None = None, check: Check | None = None
) -> Catalog:
    """Load the built-in folders, then the user's, which override them.

    Raises CatalogError, also for a profile in which `check` finds a fault.
    """
    return Catalog(
        _load_all(Profile, _folders("models", models_dir), check),
        _load_all(PrincipleSet, _folders("principles", principles_dir)),
    )


def load_profile(path: Path, check: Check | None = None) -> Profile:
    """Load a profile from any file (`grm serve --profile runs/x/profile.yaml`).

    Paths of model, meta RM and adapter that start with `./` are relative to the file. Raises CatalogError,
    also if `check` finds a fault.
    """
    profile, line_of = yaml.load(Profile, path)
    _check(profile, path, line_of, check)
    return _resolve_paths(profile, path)


def load_principles(path: Path) -> tuple[PrincipleSet, list[int]]:
    """Load a principle set from any file, with the line of each principle. Raises CatalogError."""
    named, line_of = _load_named(PrincipleSet, path)
    return named, [line_of("principles", i) for i in range(len(named.principles))]


def principle_files(principles_dir: Path | None = None) -> dict[str, Path]:
    """Return the file of each principle set by name; the user's files override. Raises CatalogError."""
    return {path.stem: path for path in _files(_folders("principles", principles_dir))}


def fingerprint(value: Profile | Sequence[Principle]) -> str:
    """Return `sha256:` and the hash of the canonical JSON of a profile or of principles.

    A model's file and an adapter count with their hashes, not with where they come from. Settings for
    thinking count if there are any: profiles without them have the fingerprints of their older verdicts.
    """
    if not isinstance(value, Profile):
        return _hashed(value)
    counted: dict[str, object] = {field.name: getattr(value, field.name) for field in fields(value)}
    del counted["gguf"]
    counted["package"] = value.gguf and value.gguf.sha256  # the field's name in older verdicts
    if value.adapter:
        counted["adapter"] = replace(value.adapter, folder="")
    # Fingerprints in older verdicts and reports know no such fields.
    if value.thinking == ThinkingSettings():
        del counted["thinking"]
    if not value.comparison:
        del counted["comparison"]
    if value.sampling.score == "hard":
        counted["sampling"] = {name: x for name, x in asdict(value.sampling).items() if name != "score"}
    return _hashed(counted)


def format_fingerprint(profile: Profile) -> str:
    """Return the fingerprint of the prompt and output format, the part of a profile that a checkpoint is
    trained on. Neither the profile's name nor its model counts.
    """
    return _hashed({name: getattr(profile, name) for name in _FORMAT_FIELDS})


def mismatch(profile: Profile, model: Path) -> str | None:
    """Return a warning if `grm train` wrote the model for another format than the profile's.

    None if the formats match, or if the model has no manifest.
    """
    try:
        manifest = json.loads((model.parent / MANIFEST).read_text(encoding="utf-8"))
        trained, name = manifest["form"], manifest["profile"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if trained == format_fingerprint(profile):
        return None
    return (
        f"{model} was trained with the prompt and output format of {name} ({trained}), which differ from "
        f"those of {profile.name} ({format_fingerprint(profile)}), so its rewards are unreliable: use "
        f"{model.parent / 'profile.yaml'}"
    )


MANIFEST = "manifest.json"
"""The file beside a trained model that records the format it was trained on."""
_FORMAT_FIELDS = ("prompt", "scale", "sections", "opening", "closing", "control_tokens")


def _hashed(value: object) -> str:
    canonical = json.dumps(value, default=asdict, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def _resolve_paths(profile: Profile, path: Path) -> Profile:
    def resolve(name: str) -> str:
        return str((path.parent / name).resolve()) if name.startswith("./") else name

    return replace(
        profile,
        model=profile.model and resolve(profile.model),
        meta_rm=profile.meta_rm and resolve(profile.meta_rm),
        adapter=profile.adapter and replace(profile.adapter, folder=resolve(profile.adapter.folder)),
    )


def _lookup(known: Mapping[str, T], kind: str, name: str) -> T:
    if name not in known:
        raise UnknownName(kind, name, sorted(known))
    return known[name]


def _folders(kind: str, own: Path | None) -> list[Path]:
    if own is not None and not own.is_dir():
        raise CatalogError(f"{own} is not a folder (GRM_{kind.upper()}_DIR)")
    shipped = _PACKAGE / "_data" / kind
    # Only wheels have _data; an editable checkout reads the folders of the repository.
    return [shipped if shipped.is_dir() else _PACKAGE.parent / kind, *([own] if own else [])]


def _load_all(kind: type[Kind], folders: Iterable[Path], check: Check | None = None) -> dict[str, Kind]:
    loaded = {path.stem: _load(kind, path, check) for path in _files(folders)}
    return dict(sorted(loaded.items()))


def _files(folders: Iterable[Path]) -> list[Path]:
    return [path for folder in folders for path in sorted(folder.iterdir()) if yaml.is_yaml(path)]


def _load(kind: type[Kind], path: Path, check: Check | None) -> Kind:
    loaded, line_of = _load_named(kind, path)
    if not isinstance(loaded, Profile):
        return loaded
    _check(loaded, path, line_of, check)
    return _resolve_paths(loaded, path)


def _check(profile: Profile, path: Path, line_of: Callable[..., int], check: Check | None) -> None:
    if check is not None and (fault := check(profile)) is not None:
        field, message = fault
        raise CatalogError(f"{path}:{line_of(*field)}: {'.'.join(field)}: {message}")


def _load_named(kind: type[Kind], path: Path) -> tuple[Kind, Callable[..., int]]:
    loaded, line_of = yaml.load(kind, path)
    if not is_printable(loaded.name):
        raise CatalogError(
            f"{path}:{line_of('name')}: name: {loaded.name!a} has characters that no terminal shows"
        )
    if loaded.name != path.stem:
        raise CatalogError(
            f"{path}:{line_of('name')}: name: {loaded.name!r} must be the file's stem {path.stem!r}"
        )
    return loaded, line_of
