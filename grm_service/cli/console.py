"""What every command does alike: settings, words to the person, failures as one line and exit 1."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar, cast, get_args

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console

from grm_service.errors import BadTask, GRMError
from grm_service.serving.service import Service
from grm_service.settings import EngineName, Settings
from grm_service.types import PrincipleMode

err = Console(stderr=True, soft_wrap=True)

Request = TypeVar("Request", bound=BaseModel)
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


def principles_asked(option: str) -> tuple[PrincipleMode, str | None]:
    """What --principles says: a mode, and after a colon the name of a set. Raises BadTask."""
    mode, _, set_name = option.partition(":")
    if mode not in get_args(PrincipleMode):
        raise BadTask(
            f"--principles {option!r}: say self, query or fixed, with a set as in fixed:helpfulness"
        )
    return cast("PrincipleMode", mode), set_name or None


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


def read_request(kind: type[Request], file: Path | None) -> Request:
    """A request out of a file, None or - for stdin; what is wrong with it is said, field by field."""
    try:
        text = sys.stdin.buffer.read() if file is None or str(file) == "-" else file.read_bytes()
        return kind.model_validate_json(text)
    except OSError as wrong:
        fail(wrong)
    except ValidationError as wrong:
        for error in wrong.errors():
            say(f"{'.'.join(map(str, error['loc'])) or 'request'}: {error['msg']}")
        fail(GRMError(f"{file or 'stdin'} is no request that can be done"))


@contextmanager
def failing() -> Iterator[None]:
    """What goes wrong inside, as a person reads it."""
    try:
        yield
    except GRMError as wrong:
        fail(wrong)
