"""grm eval: run (the default command), compare and check."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markdown import Markdown
from typer.core import TyperGroup

from grm_service.cli.console import (
    Engine,
    ProfileName,
    SafeConsole,
    err,
    exit_on_error,
    say,
    say_loading,
    settings,
)
from grm_service.cli.judge_options import Given, judge_options, to_options
from grm_service.errors import BadTask
from grm_service.evaluation.run_folder import JudgeKind

if TYPE_CHECKING:
    from grm_service.evaluation.run_folder import ItemResult


class _EvalGroup(TyperGroup):
    """A group that takes an unknown command as data: `grm eval DATA` is `grm eval run DATA`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_EvalGroup,
    help="Evaluate a judge on preference data: grm eval DATA --out FOLDER; grm eval compare A B.",
    no_args_is_help=True,
)


@app.command()
@judge_options(leave_out=("k",))
def run(
    data: Annotated[str, typer.Argument(help="A file, a folder of files, or OWNER/NAME[:SPLIT] of the Hub.")],
    out: Annotated[Path, typer.Option(help="Folder for the report; an interrupted run resumes in it.")],
    profile: ProfileName = None,
    k: Annotated[
        str, typer.Option(help="Values of k to report; the largest is sampled, smaller ones are subsampled.")
    ] = "1,2,4,8",
    engine: Engine = None,
    url: Annotated[str | None, typer.Option(help="Evaluate a running service instead.")] = None,
    key: Annotated[str | None, typer.Option(help="API key of that service.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Items to judge, stratified by source.")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="Format of the data. Default: detected by its columns.")
    ] = None,
    judge: Annotated[JudgeKind, typer.Option(help="grm, or a baseline on the same model.")] = "grm",
    concurrency: Annotated[int, typer.Option(min=1, help="Items judged at once.")] = 8,
    *,
    given: Given,
) -> None:
    """Judge DATA once at the largest k, and report accuracy, scaling, calibration, biases and cost."""
    from grm_service.evaluation import evaluate
    from grm_service.evaluation.baselines import MAX_LOGPROB_K

    settings(engine=engine, profile=profile)
    with exit_on_error(), _Progress() as progress:
        ks = _parse_ks(k)
        if judge == "logprob" and max(ks) > MAX_LOGPROB_K:
            say(f"logprob is deterministic: k is {MAX_LOGPROB_K}, one sample for each order")
        evaluate(
            data,
            out,
            profile=profile,
            engine=engine,
            url=url,
            key=key,
            options=to_options(given),
            ks=ks,
            judge=judge,
            limit=limit,
            format=format_,
            concurrency=concurrency,
            on_load=say_loading,
            on_start=progress.start,
            on_judged=progress.advance,
        )
    _show((out / "report.md").read_text(encoding="utf-8"))
    say(f"{out}/report.md, report.json")


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Folders of runs over the same data; FOLDER@median, @majority or @meta for another vote."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for compare.json, compare.md and a plot.")] = None,
) -> None:
    """Compare runs with the first one: paired differences, and accuracy against tokens."""
    from grm_service import evaluation
    from grm_service.evaluation.markdown import render_comparisons

    with exit_on_error():
        comparisons = evaluation.compare(runs, out)
    _show(
        render_comparisons(comparisons, [])
        if out is None
        else (out / "compare.md").read_text(encoding="utf-8")
    )


@app.command()
def check(
    report: Annotated[Path, typer.Argument(help="A report.json.")],
    committed: Annotated[Path, typer.Argument(help="The report.json that it should reproduce.")],
) -> None:
    """Check a report's figures against the intervals of a committed one; exit 1 if one is outside."""
    from grm_service.evaluation import reproduce
    from grm_service.evaluation.markdown import render_checks

    with exit_on_error():
        checks = reproduce(report, committed)
    _show(render_checks(checks))
    if not all(each.reproduced for each in checks):
        raise typer.Exit(1)


class _Progress:
    """A progress bar over the items of a run. A context manager."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, done: int, total: int) -> None:
        from grm_service.cli.terminal import bar

        if done:
            say(f"{done} of {total} items were judged before")
        self._advance = self._stack.enter_context(bar(err, "judging", total - done))

    def advance(self, result: ItemResult) -> None:
        self._advance()


def _parse_ks(k: str) -> list[int]:
    try:
        ks = [int(number) for number in k.split(",")]
    except ValueError:
        ks = [0]
    if min(ks) < 1 or max(ks) > 64:
        raise BadTask(f"--k {k!r}: give numbers from 1 to 64, such as 1,2,4,8")
    return ks


def _show(text: str) -> None:
    SafeConsole().print(Markdown(text, hyperlinks=False))
