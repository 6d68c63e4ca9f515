"""grm models: fetch and convert model files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grm_service.cli.console import failing, say, settings
from grm_service.engines.files.convert import Encoding
from grm_service.factory import default_profile, open_catalog

app = typer.Typer(help="Model files.", no_args_is_help=True)


@app.command()
def fetch(name: Annotated[str, typer.Argument(help="A profile's name, such as smollm2-judge.")]) -> None:
    """Fetch a profile's model into the cache (GRM_CACHE_DIR) and make it ready to load."""
    from grm_service.engines.files.weights import f16_gguf

    found = settings(profile=name)
    with failing():
        profile = default_profile(found, open_catalog(found))
        if profile.package is None:
            say(f"{profile.model} comes from the model hub: it is fetched at the first start")
            return
        say(f"{profile.model} is at {f16_gguf(profile.package, found.cache_dir, profile.adapter)}")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A model's folder (safetensors), or a LoRA adapter's.")],
    target: Annotated[Path, typer.Argument(help="The GGUF to write, ending in .gguf.")],
    base: Annotated[
        Path | None, typer.Option(help="The adapter's base model, if not where the adapter says.")
    ] = None,
    encoding: Annotated[Encoding, typer.Option("--type", help="How weights are stored.")] = "f16",
) -> None:
    """Write a model as a GGUF that the openvino engine reads, a LoRA adapter merged in where there is one."""
    from grm_service.engines.files.convert import convert as write

    settings()
    with failing():
        write(source, target, base, encoding)
    say(f"{target} is ready: GRM_MODEL={target} grm serve")
