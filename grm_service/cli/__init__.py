"""The commands of `grm`, one module for each group."""

from __future__ import annotations

from typing import Annotated

import typer

from grm_service.cli import audit, evaluate, improve, keys, models, principles, probe, serve, train
from grm_service.cli.console import Commands, put
from grm_service.version import __version__

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(given: bool) -> None:
    if given:
        put(f"grm-service {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """A generative reward model service: judge responses, evaluate and train judges."""


app.command()(serve.serve)
app.command()(serve.judge)
app.command()(improve.improve)
app.command()(improve.pairs)
app.command()(serve.profiles)
app.command()(probe.probe)
app.add_typer(evaluate.app, name="eval")
app.add_typer(train.app, name="train")
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(principles.app, name="principles")
app.add_typer(audit.app, name="audit")
