"""grm principles: list, show and lint principle sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from grm_service.cli.console import SafeConsole, exit_on_error, fail, put, say, settings
from grm_service.errors import GRMError, UnknownName
from grm_service.factory import open_catalog
from grm_service.principles import lint as linter
from grm_service.profiles.catalog import load_principles, principle_files
from grm_service.profiles.yaml import is_yaml

app = typer.Typer(
    help="Principle sets: the built-in ones and those in GRM_PRINCIPLES_DIR.", no_args_is_help=True
)


@app.command("list")
def list_() -> None:
    """List the known sets."""
    with exit_on_error():
        catalog = open_catalog(settings())
    table = Table(Column("name", no_wrap=True), "principles", "description")
    for named in catalog.principle_sets.values():
        table.add_row(named.name, str(len(named.principles)), named.description)
    SafeConsole().print(table)


@app.command()
def show(name: Annotated[str, typer.Argument(metavar="NAME_OR_FILE")]) -> None:
    """Show the principles of a set, with their weights."""
    with exit_on_error():
        (path,) = _paths([name], principle_files(settings().principles_dir))
        named, _ = load_principles(path)
    table = Table("weight", "principle", title=f"{named.name}: {named.description}", title_justify="left")
    for principle in named.principles:
        table.add_row(f"{principle.weight:g}", principle.text)
    SafeConsole().print(table)


@app.command()
def lint(
    sets: Annotated[
        list[str] | None, typer.Argument(metavar="NAME_OR_FILE", help="Default: all known sets.")
    ] = None,
) -> None:
    """Lint principles for subjective words, compound demands, matters of form ... Exit with 1 on findings.

    The linter knows words, not meaning: check each finding, and do not take a clean result as proof.
    """
    with exit_on_error():
        paths = list(_paths(sets, principle_files(settings().principles_dir)))
        lines = list(_lines(paths))
    for line in lines:
        put(line)
    if lines:
        fail(GRMError(f"{len(lines)} findings in {len(paths)} principle sets"))
    say(f"no findings in {len(paths)} principle sets")


def _paths(sets: list[str] | None, known: dict[str, Path]) -> Iterator[Path]:
    for each in known if sets is None else sets:
        if is_yaml(each):
            yield Path(each)
        elif each in known:
            yield known[each]
        else:
            raise UnknownName("principle set", each, sorted(known))


def _lines(paths: Iterable[Path]) -> Iterator[str]:
    """Yield `FILE:LINE: set: rule: message` for each finding."""
    for path in paths:
        named, lines = load_principles(path)
        for line, findings in zip(lines, linter.lint([p.text for p in named.principles]), strict=True):
            for finding in findings:
                yield f"{path}:{line}: {named.name}: {finding.rule}: {finding.message}"
