"""The source of a model's files, and the files that each embedded engine loads."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from grm_service.engines.files import checkpoint, weights
from grm_service.engines.files.adapter import check_plain_lora, is_adapter
from grm_service.engines.files.convert import convert_command
from grm_service.errors import ModelNotLoaded
from grm_service.profiles.model_files import GGUF, AdapterFolder
from grm_service.profiles.profile import Profile


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model's identity (hub id or path) and, for a GGUF to download, its sources, cache folder and adapter.

    The GGUF is downloaded only if `model` is not an existing path.
    """

    model: str
    gguf: GGUF | None
    cache: Path
    adapter: AdapterFolder | None = None

    @classmethod
    def from_profile(cls, profile: Profile, cache: Path) -> ModelSource:
        """Return the source of a profile's model. Raises ModelNotLoaded if the profile has no model."""
        if profile.model is None:
            raise ModelNotLoaded(
                f"the profile {profile.name} has no model: set GRM_MODEL to a hub id or a path"
            )
        return cls(profile.model, profile.gguf, cache, profile.adapter)

    @property
    def path(self) -> Path:
        return Path(self.model).expanduser()


def openvino_path(source: ModelSource) -> Path:
    """Return the GGUF or exported folder that OpenVINO loads, downloaded and exported if necessary.

    Raises ModelNotLoaded if the model is missing, or if OpenVINO could not load all of it.
    """
    if source.gguf is not None and not source.path.exists():
        return weights.ensure_openvino(source.gguf, source.cache, source.adapter)
    if not source.path.exists():
        raise ModelNotLoaded(
            f"the model {source.model} does not exist: the openvino engine needs a path to a GGUF or a folder"
        )
    if source.path.is_dir():
        if (converted := _converted_gguf(source.path)).is_file():
            return converted
        _check_openvino_folder(source.path)
    return source.path


def transformers_path(source: ModelSource) -> str:
    """Return the folder or hub id that transformers loads, downloaded and converted if necessary.

    Raises ModelNotLoaded if transformers could not load all of it, MissingExtra if a package is missing.
    """
    if is_adapter(source.path):
        _check_transformers_adapter(source.path)
    if source.path.exists():
        return str(source.path)
    if source.gguf is None:
        return source.model
    return str(weights.ensure_safetensors(source.gguf, source.cache, source.adapter))


def is_openvino_model(source: ModelSource) -> bool:
    """Return True if the openvino engine can load the model: a GGUF or an exported folder."""
    if source.gguf is not None and not source.path.exists():
        return True
    is_gguf = source.path.suffix == ".gguf" or _converted_gguf(source.path).is_file()
    return is_gguf or (_is_exported(source.path) and not is_adapter(source.path))


def _converted_gguf(folder: Path) -> Path:
    """Return the path of the GGUF that `convert_command` writes for a folder."""
    return folder.parent / f"{folder.name}.gguf"


def _is_exported(folder: Path) -> bool:
    return (folder / "openvino_model.xml").is_file()


def _check_openvino_folder(path: Path) -> None:
    """Raise ModelNotLoaded, with the command to run, if OpenVINO cannot load the folder or all of it."""
    convert = f"convert it with `{convert_command(path)}` and set GRM_MODEL={path}.gguf"
    if is_adapter(path):
        # OpenVINO would load an exported base beside the adapter and ignore the adapter.
        raise ModelNotLoaded(f"{path} holds a LoRA adapter, which openvino would ignore: {convert}")
    if not _is_exported(path):
        unsupported = "openvino does not support its architecture: use the transformers engine"
        raise ModelNotLoaded(
            f"openvino cannot load the model {path}: {convert if checkpoint.family(path) else unsupported}"
        )


def _check_transformers_adapter(path: Path) -> None:
    """Raise ModelNotLoaded, with the command to run, if transformers would not load all of the adapter."""
    check_plain_lora(path)
    merge = f"or merge it: `{convert_command(path)}`"
    if find_spec("peft") is None:
        # Without peft, transformers loads a model in the same folder and ignores the adapter.
        raise ModelNotLoaded(f"{path} holds a LoRA adapter, which needs peft: pip install peft, {merge}")
    if not (path / "tokenizer.json").is_file():
        raise ModelNotLoaded(f"the adapter {path} has no tokenizer: copy its base model's, {merge}")
