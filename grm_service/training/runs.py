"""The folder of a run: the model, a profile that serves it, how it came to be, and what was logged."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
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
from grm_service.training.models import Learner, leads, processes, save

LOG, PROFILE = "log.jsonl", "profile.yaml"
_PACKAGES = ("grm-service", "torch", "transformers", "trl", "peft", "datasets")


class TrainingRun:
    """A run into a folder; what was cut off goes on where the arguments are the same.

    `arguments` are all that decides what comes out, with hashes of the data. Raises BadTask where the folder
    holds another run, or a finished one.
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
        self._same_run()
        self._write({"finished": None})

    @property
    def checkpoints(self) -> Path:
        """The trainer's own, while it is under way."""
        return self.folder / "checkpoints"

    @property
    def cut_off_at(self) -> str | None:
        """The checkpoint to go on from."""
        from transformers.trainer_utils import get_last_checkpoint

        return get_last_checkpoint(str(self.checkpoints)) if self.checkpoints.is_dir() else None

    @property
    def tokens_before(self) -> int:
        """What the trainer had seen there: it counts on from it, while its clock begins anew."""
        if (cut_off_at := self.cut_off_at) is None:
            return 0
        state = json.loads((Path(cut_off_at) / "trainer_state.json").read_text(encoding="utf-8"))
        return int(state["num_input_tokens_seen"])

    def finish(self, learner: Learner, metrics: Mapping[str, Any], description: str) -> Path:
        """Writes model, profile and manifest; gives the profile's file."""
        if leads():
            model = self.folder / "model"
            save(learner, model)
            if _readable_as_gguf(learner, model):
                convert(model, self.folder / "model.gguf")
        served = replace(self.profile, model="./model", package=None, adapter=None)
        return self.conclude(served, learner.trainable, metrics, description)

    def conclude(self, served: Profile, trainable: int, metrics: Mapping[str, Any], description: str) -> Path:
        """Writes the profile that serves what lies in the folder, and the manifest."""
        if not leads():
            return self.folder / PROFILE
        file = write_profile(served, self.folder, description)
        self._write(
            {
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "processes": processes(),
                "trainable": trainable,
                "peak_memory_bytes": peak_memory_bytes(),
                "metrics": dict(metrics),
            }
        )
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        return file

    def _same_run(self) -> None:
        file = self.folder / MANIFEST
        if not file.exists():
            return
        before = json.loads(file.read_text(encoding="utf-8"))
        if before["finished"]:
            raise BadTask(f"{self.folder} holds a finished run: take a new folder")
        differ = [
            f"{key} {before.get(key)!r}, now {value!r}"
            for key, value in self.manifest.items()
            if before.get(key) != value and key != "versions"
        ]
        if differ:
            raise BadTask(f"{self.folder} holds a run with {'; '.join(differ)}: take a new folder")

    def _write(self, more: Mapping[str, Any]) -> None:
        if not leads():
            return
        # Whole or not at all, as a kill may come at any time.
        torn = self.folder / f"{MANIFEST}.tmp"
        torn.write_text(json.dumps({**self.manifest, **more}, indent=2) + "\n", encoding="utf-8")
        torn.replace(self.folder / MANIFEST)


def peak_memory_bytes() -> int:
    """The most that this process has held: on the GPU where it has used one, else in memory."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def write_profile(profile: Profile, folder: Path, description: str) -> Path:
    """`profile.yaml`, named after the folder; defaults are left out."""
    trained = replace(profile, name=folder.resolve().name, description=description)
    file, yaml = folder / PROFILE, YAML()
    yaml.width = 10_000
    with file.open("w", encoding="utf-8") as out:
        out.write(f"# Written by grm train; {MANIFEST} says how the model came to be.\n")
        yaml.dump(_told(trained), out)
    if format_fingerprint(load_profile(file)) != format_fingerprint(profile):
        raise AssertionError(f"{file} is not the profile that was trained")
    return file


def _told(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        made = {field.name: getattr(value, field.name) for field in fields(value)}
        default = {field.name: field.default for field in fields(value)}
        return {name: _told(each) for name, each in made.items() if each != default[name]}
    if isinstance(value, str) and "\n" in value:
        return LiteralScalarString(value)
    return list(value) if isinstance(value, tuple) else value


def _readable_as_gguf(learner: Learner, model: Path) -> bool:
    """Whether the openvino engine is here and reads the architecture."""
    base = Path(learner.model.config.name_or_path) if is_adapter(model) else model
    return bool(find_spec("openvino_genai") and find_spec("gguf") and checkpoint.family(base))


def _versions() -> dict[str, str | None]:
    def of(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    return {package: of(package) for package in _PACKAGES}
