"""grm keys: add, list and remove API keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from grm_service.cli.console import SafeConsole, exit_on_error, fail, put, say, settings
from grm_service.errors import GRMError
from grm_service.serving import keys

app = typer.Typer(help="API keys, in the file GRM_KEYS_FILE.", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Name of the owner, as shown in metrics and usage.")],
    weight: Annotated[
        float,
        typer.Option(
            min=keys.MIN_WEIGHT, max=keys.MAX_WEIGHT, help="Share of the engine while several callers wait."
        ),
    ] = 1.0,
    max_requests: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of concurrent requests.")
    ] = None,
    auditor: Annotated[bool, typer.Option(help="Allow reading and reviewing all verdicts.")] = False,
) -> None:
    """Create a key and print it once: the file stores only its hash. Restart the server to load it.

    Verdicts belong to names: a new key under an old name reads and reviews the verdicts of that name.
    """
    with exit_on_error():
        put(keys.add(_file(), name, weight, max_requests, auditor))


@app.command("list")
def list_() -> None:
    """List the keys by owner."""
    with exit_on_error():
        known = keys.load(_file()).keys
    table = Table(Column("name", no_wrap=True), "weight", "max requests", "auditor")
    for key in known:
        table.add_row(
            key.name, f"{key.weight:g}", str(key.max_requests or "any"), "yes" if key.auditor else "no"
        )
    SafeConsole().print(table)


@app.command()
def remove(name: Annotated[str, typer.Argument(help="Name of the owner.")]) -> None:
    """Remove a key from the file. Restart the server to apply it."""
    with exit_on_error():
        keys.remove(_file(), name)
    say(f"the verdicts of {name!r} stay, and a new key of that name can read them")


def _file() -> Path:
    path = settings().keys_file
    if path is None:
        fail(GRMError("set GRM_KEYS_FILE to the file of the keys: GRM_KEYS_FILE=keys.yaml grm keys ..."))
    return path
