"""grm serve | judge | profiles | models | keys."""

from __future__ import annotations

import typer

from grm_service.cli import keys, models, serving

app = typer.Typer(
    help="The reward service that explains itself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(serving.serve)
app.command()(serving.judge)
app.command()(serving.profiles)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
