"""What every command does alike: settings, words to the person, failures as one line and exit 1."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console

from grm_service.errors import GRMError
from grm_service.service import Service
from grm_service.settings import EngineName, Settings

err = Console(stderr=True, soft_wrap=True)

Engine = Annotated[EngineName | None, typer.Option(help="What generates (auto).")]
ProfileName = Annotated[str | None, typer.Option(help="A profile's name, or a path ending in .yaml.")]


def settings(**flags: object) -> Settings:
    """The settings, flags that were given before the environment; sets up the log."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for noisy in ("httpx", "gguf", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as wrong:
        fail(GRMError("; ".join(f"GRM_{str(e['loc'][0]).upper()}: {e['msg']}" for e in wrong.errors())))


def say(text: str) -> None:
    """A line for the person, beside what goes to stdout."""
    err.print(text, highlight=False, markup=False)


def say_loading(service: Service) -> None:
    """Which model is being loaded, by which engine, and why that."""
    model = service.engine.model or "the model of the server"
    say(f"loading {model} with the engine {service.engine.name} ({service.chosen})")


def fail(wrong: Exception) -> NoReturn:
    """Says what is wrong and exits with 1."""
    err.print(f"error: {wrong}", style="red", highlight=False, markup=False)
    raise typer.Exit(1)


@contextmanager
def failing() -> Iterator[None]:
    """What goes wrong inside, as a person reads it."""
    try:
        yield
    except GRMError as wrong:
        fail(wrong)
