"""The commands of `grm`, one module for each group."""

from __future__ import annotations

import typer

from grm_service.cli import audit, evaluate, improve, keys, models, principles, probe, serve, train
from grm_service.cli.console import Commands

app = typer.Typer(
    cls=Commands,
    help="A generative reward model service: judge responses, evaluate and train judges.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
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
