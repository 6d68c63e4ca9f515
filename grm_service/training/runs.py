"""Training runs: a folder with the model, a profile that serves it, a manifest and the trainer's log."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from grm_service.engines.files import checkpoint
from grm_service.engines.files.adapter import is_adapter
from grm_service.engines.files.convert import convert
from grm_service.errors import BadTask
from grm_service.profiles.catalog import MANIFEST, fingerprint, format_fingerprint, load_profile
from grm_service.profiles.profile import Profile
from grm_service.training.models import Learner, is_main_process, save, world_size

LOG, PROFILE = "log.jsonl", "profile.yaml"
_PACKAGES = ("grm-service", "torch", "transformers", "trl", "peft", "datasets")


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The result of a run: the file of the profile that serves its model, and the manifest's metrics."""

    profile: Path
    metrics: dict[str, Any]


class TrainingRun:
    """A run in a folder, which resumes from its last checkpoint if the arguments are the same.

    `profile` names the base model; `arguments` are all inputs that the result depends on, with hashes of the
    data. Raises BadTask if the folder has a run with other arguments, or a finished one.
    """

    def __init__(self, folder: Path, kind: str, profile: Profile, arguments: Mapping[str, Any]) -> None:
        self.folder, self.profile = folder, profile
        self.manifest: dict[str, Any] = {
            "kind": kind,
            "profile": profile.name,
            "fingerprint": fingerprint(profile),
            "form": format_fingerprint(profile),
            "base": profile.model,
            "arguments": json.loads(json.dumps(dict(arguments))),
            "versions": _versions(),
        }
        folder.mkdir(parents=True, exist_ok=True)
        self._require_same_run()
        self._write({"finished": None})

    @property
    def checkpoints(self) -> Path:
        """The folder of the trainer's checkpoints, deleted at the end."""
        return self.folder / "checkpoints"

    @property
    def last_checkpoint(self) -> str | None:
        """The checkpoint to resume from, None for a new run."""
        from transformers.trainer_utils import get_last_checkpoint

        return get_last_checkpoint(str(self.checkpoints)) if self.checkpoints.is_dir() else None

    @property
    def tokens_at_checkpoint(self) -> int:
        """The tokens before the last checkpoint: the trainer counts them again, but its clock restarts."""
        if (last_checkpoint := self.last_checkpoint) is None:
            return 0
        state = json.loads((Path(last_checkpoint) / "trainer_state.json").read_text(encoding="utf-8"))
        return int(state["num_input_tokens_seen"])

    def finish(self, learner: Learner, metrics: Mapping[str, Any], description: str) -> Path:
        """Write the trained judge, its profile and the manifest; return the profile's file."""
        if is_main_process():
            model = self.folder / "model"
            save(learner, model)
            if _has_gguf_reader(learner, model):
                convert(model, self.folder / "model.gguf")
        trained = replace(self.profile, model="./model", gguf=None, adapter=None)
        return self.write_result(trained, learner.trainable, metrics, description)

    def write_result(
        self, profile: Profile, trainable: int, metrics: Mapping[str, Any], description: str
    ) -> Path:
        """Write the profile of the trained model and the manifest; return the profile's file."""
        if not is_main_process():
            return self.folder / PROFILE
        file = write_profile(profile, self.folder, description)
        self._write(
            {
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "processes": world_size(),
                "trainable": trainable,
                "peak_memory_bytes": peak_memory_bytes(),
                "metrics": dict(metrics),
            }
        )
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        return file

    def _require_same_run(self) -> None:
        file = self.folder / MANIFEST
        if not file.exists():
            return
        before = json.loads(file.read_text(encoding="utf-8"))
        if before["finished"]:
            raise BadTask(f"{self.folder} holds a finished run: use a new folder")
        changes = [
            f"{key} {before.get(key)!r}, now {value!r}"
            for key, value in self.manifest.items()
            if before.get(key) != value and key != "versions"
        ]
        if changes:
            raise BadTask(f"{self.folder} holds a run with {'; '.join(changes)}: use a new folder")

    def _write(self, more: Mapping[str, Any]) -> None:
        if not is_main_process():
            return
        # Atomic: the process can be killed at any time.
        temporary = self.folder / f"{MANIFEST}.tmp"
        temporary.write_text(json.dumps({**self.manifest, **more}, indent=2) + "\n", encoding="utf-8")
        temporary.replace(self.folder / MANIFEST)


def peak_memory_bytes() -> int:
    """Return this process's peak memory: of the GPU if there is one, else of the CPU."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def write_profile(profile: Profile, folder: Path, description: str) -> Path:
    """Write `profile.yaml`, with the folder's name and without default values; return the file."""
    trained = replace(profile, name=folder.resolve().name, description=description)
    file, yaml = folder / PROFILE, YAML()
    yaml.width = 10_000
    with file.open("w", encoding="utf-8") as out:
        out.write(f"# Written by grm train; {MANIFEST} says how the model came to be.\n")
        yaml.dump(_to_yaml(trained), out)
    if format_fingerprint(load_profile(file)) != format_fingerprint(profile):
        raise AssertionError(f"{file} is not the profile that was trained")
    return file


def _to_yaml(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        changed = [field.name for field in fields(value) if getattr(value, field.name) != field.default]
        return {name: _to_yaml(getattr(value, name)) for name in changed}
    if isinstance(value, str) and "\n" in value:
        return LiteralScalarString(value)
    return list(value) if isinstance(value, tuple) else value


def _has_gguf_reader(learner: Learner, model: Path) -> bool:
    """Return whether the openvino engine is installed and supports the architecture."""
    base = Path(learner.model.config.name_or_path) if is_adapter(model) else model
    return bool(find_spec("openvino_genai") and find_spec("gguf") and checkpoint.family(base))


def _versions() -> dict[str, str | None]:
    def installed(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    return {package: installed(package) for package in _PACKAGES}
