"""Shared by all commands: settings, requests, and output: every text goes to the terminal through here.

Control characters and markup in texts of others are printed as text.
"""

from __future__ import annotations

import errno
import logging
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text
from typer.core import TyperGroup

from grm_service.data_files import decode
from grm_service.errors import BadSetting, GRMError
from grm_service.log_lines import SAFE_LINES
from grm_service.printable import printable, printable_json, printable_line
from grm_service.serving.service import Service
from grm_service.settings import EngineName, Settings, load_settings


class SafeConsole(Console):
    """A console that prints strings as text: without markup, emoji codes and control characters."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=soft_wrap, markup=False, highlight=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text of a string, such as the cell of a table, before it is measured and wrapped."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of anything to be printed; what no string wrote is escaped here."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


class Commands(TyperGroup):
    """The group of all commands: usage errors and tracebacks are printed without control characters."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        with _printable_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        with _printable_errors():
            return super().invoke(ctx)


_ERRNO = re.compile(r"\[Errno -?\d+\] ")
err = SafeConsole(stderr=True, soft_wrap=True)

Request = TypeVar("Request", bound=BaseModel)
Engine = Annotated[EngineName | None, typer.Option(help="Inference engine (auto).")]
ProfileName = Annotated[str | None, typer.Option(help="Name of a profile, or a path ending in .yaml.")]


def settings(**flags: object) -> Settings:
    """Return the settings, with flags that are not None over the environment, and configure logging.

    Exits with 1 if a setting is invalid.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.addFilter(SAFE_LINES)
    for noisy in ("httpx", "gguf", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        return load_settings(**flags)
    except BadSetting as wrong:
        fail(wrong)


def say(text: str) -> None:
    """Print a line for the user on stderr; stdout is for results."""
    err.print(text)


def put(text: str) -> None:
    """Print a line of results on stdout, as it is but for control characters."""
    print(printable(text))  # noqa: T201


def put_json(text: str) -> None:
    """Print JSON on stdout; control characters in its strings are escaped, so its value stays the same."""
    print(printable_json(text))  # noqa: T201


def say_loading(service: Service) -> None:
    """Print the model that is being loaded, the engine, and why that engine was chosen."""
    model = service.engine.model or "the model of the server"
    say(f"loading {model} with the engine {service.engine.name} ({service.chosen})")


def fail(wrong: Exception) -> NoReturn:
    """Print an error and exit with 1."""
    err.print(f"error: {_ERRNO.sub('', str(wrong))}", style="red")
    raise typer.Exit(1)


def read_request(kind: type[Request], file: Path | None, overrides: Mapping[str, Any]) -> Request:
    """Return the JSON request in a file (stdin for None or -), with `overrides` over its fields.

    Prints each invalid field and exits with 1 if the request is invalid.
    """
    try:
        data = _stdin() if file is None or str(file) == "-" else file.read_bytes()
        return kind.model_validate_json(_merge(decode(data), overrides))
    except OSError as wrong:
        fail(wrong)
    except ValidationError as wrong:
        for error in wrong.errors():
            say(f"{'.'.join(map(str, error['loc'])) or 'request'}: {error['msg']}")
        fail(GRMError(f"{file or 'stdin'} is not a valid request"))
    except ValueError as wrong:
        fail(GRMError(f"{file or 'stdin'}: {wrong}"))


def _stdin() -> bytes:
    if sys.stdin.isatty():
        say("reading a JSON request from the terminal: paste it, then press Ctrl-D (or name a file)")
    return sys.stdin.buffer.read()


def _merge(text: str, overrides: Mapping[str, Any]) -> str | bytes:
    """Return a JSON object with `overrides`; return anything else unchanged, for pydantic to report."""
    if not overrides:
        return text
    try:
        fields = from_json(text)
    except ValueError:
        return text
    return to_json({**fields, **overrides}) if isinstance(fields, dict) else text


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Print any GRMError raised inside as one line and exit with 1."""
    try:
        yield
    except GRMError as wrong:
        fail(wrong)


@contextmanager
def _printable_errors() -> Iterator[None]:
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except OSError as wrong:
        if wrong.errno == errno.EPIPE:
            raise
        fail(wrong)
    except Exception as wrong:
        # Usage errors have a message, which may quote an argument, and an exit code; anything else is a bug.
        if hasattr(wrong, "exit_code") and isinstance(message := getattr(wrong, "message", None), str):
            wrong.__dict__["message"] = printable_line(message)
            raise
        sys.stderr.write(printable(traceback.format_exc()))
        raise typer.Exit(1) from None
