"""Which engine runs a model, and why; and the embedded meta RM."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from grm_service.engines.base import Engine, MetaRM
from grm_service.engines.files import checkpoint, weights
from grm_service.engines.files.adapter import check, is_adapter
from grm_service.engines.files.convert import command
from grm_service.engines.isolated import IsolatedEngine, IsolatedMetaRM
from grm_service.errors import MissingExtra, ModelNotLoaded
from grm_service.profiles.profile import AdapterFolder, Package, Profile

Embedded = Literal["openvino", "transformers"]


@dataclass(frozen=True, slots=True)
class Source:
    """A model by its identity (hub id or path) and where its files are when no hub is asked."""

    model: str
    package: Package | None
    cache: Path
    adapter: AdapterFolder | None = None

    @classmethod
    def of(cls, profile: Profile, cache: Path) -> Source:
        """Of a profile's model. Raises ModelNotLoaded when it names none."""
        if profile.model is None:
            raise ModelNotLoaded(
                f"the profile {profile.name} names no model: set GRM_MODEL to a hub id or a path"
            )
        return cls(profile.model, profile.package, cache, profile.adapter)

    @property
    def path(self) -> Path:
        return Path(self.model).expanduser()


def embedded(
    name: Literal["auto"] | Embedded, source: Source, kv_cache_gb: float | None, precision: str
) -> tuple[Engine, str]:
    """The engine, in a process of its own, and the reason for it.

    Nothing is loaded yet; files are fetched by the engine's start. `kv_cache_gb` None: the engine decides.
    """
    if name == "auto":
        name, why = _auto(source)
    else:
        why = "asked for"
    build = _openvino if name == "openvino" else _transformers
    return IsolatedEngine(name, source.model, partial(build, source, kv_cache_gb, precision)), why


def embedded_meta_rm(model: str) -> MetaRM:
    """By hub id or path, in a process of its own; nothing is loaded yet."""
    return IsolatedMetaRM(model, partial(_meta_rm, model))


def _meta_rm(model: str) -> MetaRM:
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise MissingExtra("local", "a meta RM in this process (GRM_META_RM_URL names a server's)")
    from grm_service.engines.meta_rm import TransformersMetaRM

    return TransformersMetaRM(model)


def _openvino(source: Source, kv_cache_gb: float | None, precision: str) -> Engine:
    if find_spec("openvino_genai") is None or find_spec("gguf") is None:
        raise MissingExtra("cpu", "the openvino engine")
    from grm_service.engines.openvino.engine import OpenVINOEngine

    return OpenVINOEngine(source.model, partial(_openvino_files, source), kv_cache_gb, precision)


def _transformers(source: Source, kv_cache_gb: float | None, precision: str) -> Engine:
    if find_spec("torch") is None or find_spec("llguidance") is None:
        raise MissingExtra("local", "the transformers engine")
    from grm_service.engines.transformers.engine import TransformersEngine

    return TransformersEngine(source.model, partial(transformers_files, source), kv_cache_gb)


def _auto(source: Source) -> tuple[Embedded, str]:
    if find_spec("torch") is not None and _cuda():
        return "transformers", "CUDA is there"
    if find_spec("openvino_genai") is None:
        return "transformers", "openvino-genai is not installed"
    if _openvino_reads(source):
        return "openvino", "on a CPU it is the fastest that reads this model"
    return "transformers", "openvino reads a GGUF or an exported folder, which this model is not"


def _cuda() -> bool:
    from grm_service.engines.transformers.engine import cuda

    return cuda()


def _openvino_reads(source: Source) -> bool:
    if source.package is not None and not source.path.exists():
        return True
    readable = source.path.suffix == ".gguf" or _converted(source.path).is_file()
    return readable or (_exported(source.path) and not is_adapter(source.path))


def _converted(path: Path) -> Path:
    """Where `command` writes what is in the folder."""
    return path.parent / f"{path.name}.gguf"


def _exported(path: Path) -> bool:
    return (path / "openvino_model.xml").is_file()


def _openvino_files(source: Source) -> Path:
    if source.package is not None and not source.path.exists():
        return weights.f16_gguf(source.package, source.cache, source.adapter)
    if not source.path.exists():
        raise ModelNotLoaded(
            f"the model {source.model} is not here: the openvino engine reads a path to a GGUF or folder"
        )
    if source.path.is_dir():
        if (converted := _converted(source.path)).is_file():
            return converted
        _check_folder(source.path)
    return source.path


def _check_folder(path: Path) -> None:
    """Raises ModelNotLoaded, with the way out, where OpenVINO would not read the folder or not all of it."""
    convert = f"convert it with `{command(path)}` and set GRM_MODEL={path}.gguf"
    if is_adapter(path):
        raise ModelNotLoaded(f"{path} holds a LoRA adapter, which openvino would leave out: {convert}")
    if not _exported(path):
        otherwise = "openvino does not know its architecture: use the transformers engine"
        raise ModelNotLoaded(
            f"{path} is not a model that openvino reads: {convert if checkpoint.family(path) else otherwise}"
        )


def transformers_files(source: Source) -> str:
    """The hub id or folder that transformers loads. Raises ModelNotLoaded, MissingExtra."""
    if is_adapter(source.path):
        _check_adapter(source.path)
    if source.path.exists():
        return str(source.path)
    if source.package is None:
        return source.model
    return str(weights.safetensors(source.package, source.cache, source.adapter))


def _check_adapter(path: Path) -> None:
    """Raises ModelNotLoaded, with the way out, where transformers would not load all of the adapter."""
    check(path)
    merge = f"or merge it: `{command(path)}`"
    if find_spec("peft") is None:
        # Without it transformers loads a model that lies beside an adapter, and leaves the adapter out.
        raise ModelNotLoaded(f"{path} holds a LoRA adapter, which needs peft: pip install peft, {merge}")
    if not (path / "tokenizer.json").is_file():
        raise ModelNotLoaded(f"the adapter {path} has no tokenizer: copy its base's there, {merge}")
