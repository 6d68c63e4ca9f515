"""Verdicts and probe results in the terminal, and progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import fmean

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from grm_service.audit.records import Record
from grm_service.judging.judge import OnEvent
from grm_service.judging.plan import Plan
from grm_service.printable import printable
from grm_service.probes.report import ProbeReport
from grm_service.types import Sample, Task


@contextmanager
def sampling_bar(console: Console) -> Iterator[OnEvent]:
    """Show a progress bar over the samples of a plan; yield the callback for the judge's events."""
    with _progress(console) as progress:
        task = progress.add_task("sampling", total=None)

        def on_event(event: Plan | Sample) -> None:
            if isinstance(event, Plan):
                progress.update(task, total=len(event.orders), completed=0)
            else:
                progress.advance(task)

        yield on_event


@contextmanager
def bar(console: Console, description: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar over `total` steps; yield a function to call after each."""
    with _progress(console) as progress:
        task = progress.add_task(description, total=total)
        yield lambda: progress.advance(task)


def _progress(console: Console) -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True, speed_estimate_period=600)


def show(console: Console, task: Task, record: Record, every: bool = False) -> None:
    """Print a verdict: the most representative critique or `every` one, the votes and the rewards."""
    verdict = record.verdict
    samples = [sample for sample in verdict.samples if sample.critique is not None]
    if not every:
        # The sample that is closest to the rewards represents the vote best.
        counted = (sample for sample in samples if sample.counted)
        samples = [min(counted, key=lambda sample: _distance(sample, verdict.vote.rewards))]
    for sample in samples:
        console.print(Panel(_critique(sample), title=f"sample {sample.index}: principles and critique"))
    console.print(_votes(verdict.samples, len(task.responses)))
    console.print(_rewards(task, record))


def show_probes(console: Console, report: ProbeReport) -> None:
    """Print a table of the probes, one row each, with the first case that failed."""
    table = Table(title=f"probes of {report.profile}", title_justify="left")
    table.add_column("probe", no_wrap=True)
    for name in ("rate", "passed", "unreadable"):
        table.add_column(name, justify="right")
    table.add_column("expected behaviour; first failed case")
    for result in report.probes:
        rate = "-" if result.rate is None else f"{result.rate:.2f}"
        table.add_row(
            result.name,
            Text(rate, style="bold red" if result.name in report.failed else ""),
            f"{result.passed}/{result.cases}",
            str(result.unreadable),
            Group(result.what, *(Text(f"{each.case}: {each.why}", "dim") for each in result.failures[:1])),
        )
    console.print(table)


def letter(i: int) -> str:
    """Return the letter of response i, as in the explorer: A to Z, then AA."""
    return (letter(i // 26 - 1) if i >= 26 else "") + chr(ord("A") + i % 26)


def _ordinal(rank: int) -> str:
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{ending}"


def _distance(sample: Sample, rewards: tuple[float, ...]) -> float:
    """Return the mean absolute difference between the rewards and the sample's scores, as voted and written.

    They differ if the scores are soft.
    """
    assert sample.critique is not None
    assert sample.scores is not None
    pairs = zip((*sample.scores, *sample.critique.scores), (*rewards, *rewards), strict=True)
    return fmean(abs(score - reward) for score, reward in pairs if score is not None)


def _critique(sample: Sample) -> RenderableType:
    assert sample.critique is not None
    labels = ", ".join(f"Response {p} = {letter(i)}" for p, i in enumerate(sample.order, 1))
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("weight", style="cyan", justify="right")
    table.add_column("principle")
    for principle in sample.critique.principles:
        weight = f"{principle.weight:.0%}" if principle.weight is not None else ""
        table.add_row(weight, Text(printable(principle.text)))
    closed = f" (closed by the service: {sample.closed_reason or 'no_scores'})" if sample.closed else ""
    note = Text(f"order in the prompt: {labels}{closed}", style="dim")
    analysis = Text(printable(sample.critique.analysis))
    # Text, not markup: a model's output must not style or link anything in the terminal.
    return Group(*_thinking(sample), table, Text(""), analysis, Text(""), note)


def _thinking(sample: Sample) -> Iterator[RenderableType]:
    """Yield a line about the sample's thinking, if there is any; `--json` prints its text."""
    if sample.thinking is not None:
        cut = ", cut off" if sample.thinking.cut else ""
        yield Text(f"thought for {len(sample.thinking.text)} characters{cut}\n", style="dim")


def _votes(samples: tuple[Sample, ...], n: int) -> Table:
    table = Table(title="votes", title_justify="left")
    table.add_column("sample", justify="right")
    for i in range(n):
        table.add_column(letter(i), justify="right")
    table.add_column("note", style="dim")
    for sample in samples:
        cells = ["" if score is None else f"{score:.3g}" for score in sample.scores or ()] or ["-"] * n
        table.add_row(str(sample.index), *cells, _note(sample))
    return table


def _note(sample: Sample) -> str:
    notes = [sample.error or ("closed" if sample.closed else "")]
    if sample.soft_error is not None:
        notes.append(f"no soft scores: {sample.soft_error}")
    if sample.grade is not None:
        notes.append(f"graded {sample.grade:.2f}{'' if sample.counted else ', left out'}")
    return ", ".join(note for note in notes if note)


def _rewards(task: Task, record: Record) -> Table:
    verdict, vote = record.verdict, record.verdict.vote
    agreement = "" if vote.agreement is None else f", agreement {vote.agreement:.2f}"
    counted = sum(sample.counted for sample in verdict.samples)
    taken = len(verdict.samples)
    samples = f"{taken} samples" if verdict.meta_rm is None else f"{counted} best of {taken} samples"
    table = Table(
        title=f"rewards ({verdict.status}, {samples}{agreement}, {verdict.judge_s:.1f} s)",
        title_justify="left",
    )
    for name in ("rank", "reward", "std", "response"):
        table.add_column(name, justify="left" if name == "response" else "right")
    for i in sorted(range(len(task.responses)), key=lambda i: vote.ranking[i]):
        text = " ".join(task.responses[i].split())
        best = "bold green" if i == vote.best else ""
        table.add_row(
            _ordinal(vote.ranking[i]),
            Text(f"{vote.rewards[i]:.2f}", style=best),
            f"{vote.std[i]:.2f}",
            Text(printable(f"{letter(i)} {text[:70]}")),
        )
    return table
