"""grm serve, judge, improve, pairs, profiles, probe, eval, train, models, keys, principles, audit."""

from __future__ import annotations

import typer

from grm_service.cli import audit, evaluating, improving, keys, models, principles, probe, serving, training

app = typer.Typer(
    help="The reward service that explains itself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(serving.serve)
app.command()(serving.judge)
app.command()(improving.improve)
app.command()(improving.pairs)
app.command()(serving.profiles)
app.command()(probe.probe)
app.add_typer(evaluating.app, name="eval")
app.add_typer(training.app, name="train")
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(principles.app, name="principles")
app.add_typer(audit.app, name="audit")
