"""grm keys: who may ask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from grm_service.cli.console import fail, failing, settings
from grm_service.errors import GRMError
from grm_service.serving import keys

app = typer.Typer(help="API keys, in the file that GRM_KEYS_FILE names.", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is, as metrics and usage name it.")],
    weight: Annotated[float, typer.Option(min=0.001, help="Its share where several wait.")] = 1.0,
    max_requests: Annotated[int | None, typer.Option(min=1, help="Its requests at once.")] = None,
    auditor: Annotated[bool, typer.Option(help="May read and review everybody's verdicts.")] = False,
) -> None:
    """Make a key and print it, once: the file keeps its hash only. A running server reads it at its start."""
    with failing():
        print(keys.add(_file(), name, weight, max_requests, auditor))  # noqa: T201


@app.command("list")
def list_() -> None:
    """List the names of the keys."""
    with failing():
        known = keys.load(_file()).keys
    table = Table("name", "weight", "max requests", "auditor")
    for key in known:
        table.add_row(
            key.name, f"{key.weight:g}", str(key.max_requests or "any"), "yes" if key.auditor else "no"
        )
    Console().print(table)


@app.command()
def remove(name: Annotated[str, typer.Argument(help="Whose key.")]) -> None:
    """Take a key out of the file; a running server forgets it at its next start."""
    with failing():
        keys.remove(_file(), name)


def _file() -> Path:
    path = settings().keys_file
    if path is None:
        fail(GRMError("say where the keys are kept: GRM_KEYS_FILE=keys.yaml grm keys ..."))
    return path
