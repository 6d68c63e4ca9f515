"""grm principles: the standards that people wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from grm_service.cli.console import fail, failing, say, settings
from grm_service.errors import GRMError, UnknownName
from grm_service.factory import open_catalog
from grm_service.principles.lint import lint as find
from grm_service.profiles.catalog import load_principles, principle_files

app = typer.Typer(
    help="Principle sets: those that ship and those of GRM_PRINCIPLES_DIR.", no_args_is_help=True
)


@app.command("list")
def list_() -> None:
    """List the sets that are known."""
    with failing():
        catalog = open_catalog(settings())
    table = Table("name", "principles", "description")
    for named in catalog.principle_sets.values():
        table.add_row(named.name, str(len(named.principles)), named.description)
    Console().print(table)


@app.command()
def lint(
    sets: Annotated[
        list[str] | None, typer.Argument(metavar="NAME_OR_FILE", help="All that are known.")
    ] = None,
) -> None:
    """Say what the words of principles give away: subjective, compound, about form ... Exit with 1 if any do.

    It knows words, not meaning: what it finds asks for a look, and that it finds nothing proves nothing.
    """
    with failing():
        paths = list(_paths(sets, principle_files(settings().principles_dir)))
        found = list(_lines(paths))
    for line in found:
        print(line)  # noqa: T201
    if found:
        fail(GRMError(f"{len(found)} findings in {len(paths)} principle sets"))
    say(f"nothing was found in {len(paths)} principle sets")


def _paths(sets: list[str] | None, known: dict[str, Path]) -> Iterator[Path]:
    for each in known if sets is None else sets:
        if each.endswith((".yaml", ".yml")):
            yield Path(each)
        elif each in known:
            yield known[each]
        else:
            raise UnknownName("principle set", each, sorted(known))


def _lines(paths: Iterable[Path]) -> Iterator[str]:
    """FILE:LINE: set: rule: what to do, for every finding."""
    for path in paths:
        named, lines = load_principles(path)
        for line, findings in zip(lines, find([p.text for p in named.principles]), strict=True):
            for finding in findings:
                yield f"{path}:{line}: {named.name}: {finding.rule}: {finding.message}"
