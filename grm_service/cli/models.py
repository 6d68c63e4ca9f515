"""grm models: fetch and convert model files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grm_service.cli.console import exit_on_error, say, settings
from grm_service.factory import default_profile, open_catalog
from grm_service.profiles.model_files import Encoding

app = typer.Typer(help="Model files.", no_args_is_help=True)


@app.command()
def fetch(
    name: Annotated[
        str | None, typer.Argument(help="A profile's name. Default: the judge that grm serve would load.")
    ] = None,
) -> None:
    """Fetch a profile's model into the cache (GRM_CACHE_DIR) and make it ready for the openvino engine."""
    from grm_service.engines.files.weights import ensure_openvino

    config = settings(profile=name)
    with exit_on_error():
        profile = default_profile(config, open_catalog(config))
        if profile.gguf is None:
            say(f"{profile.model} comes from the model hub and is downloaded at the first start")
            return
        say(f"{profile.model} is at {ensure_openvino(profile.gguf, config.cache_dir, profile.adapter)}")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Folder of a model (safetensors) or of a LoRA adapter.")],
    target: Annotated[Path, typer.Argument(help="Path of the GGUF to write, ending in .gguf.")],
    base: Annotated[
        Path | None, typer.Option(help="Base model of the adapter, if not the one named in the adapter.")
    ] = None,
    encoding: Annotated[Encoding, typer.Option("--type", help="Encoding of the weights.")] = "f16",
) -> None:
    """Convert a model, or a LoRA adapter merged into its base model, to a GGUF for the openvino engine."""
    from grm_service.engines.files.convert import convert as write

    settings()
    with exit_on_error():
        write(source, target, base, encoding)
    say(f"{target} is ready: GRM_MODEL={target} grm serve")
