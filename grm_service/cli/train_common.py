"""Options and progress output that the commands of grm train share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from grm_service.cli.console import SafeConsole, err, say, say_loading
from grm_service.cli.terminal import bar
from grm_service.training.callbacks import TrainingCallback

if TYPE_CHECKING:
    from grm_service.serving.service import Service
    from grm_service.training import TrainingResult
    from grm_service.training.rejection_sampling import Selection

DataArg = Annotated[str, typer.Argument(help="Items with a known best response, as grm eval reads them.")]
File = Annotated[Path, typer.Option("--out", help="File of trajectories; an interrupted run resumes in it.")]
RunOut = Annotated[Path, typer.Option("--out", help="Folder of the run; an interrupted run resumes in it.")]
Files = Annotated[list[Path] | None, typer.Option(help="File of trajectories; can be repeated.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Number of items, each source in proportion.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of orders, sampling and training.")]
Samples = Annotated[int, typer.Option(min=1, max=63, help="Trajectories per item.")]
Hints = Annotated[
    bool, typer.Option(help="If all samples are wrong, sample one more with the best response in the prompt.")
]
Concurrency = Annotated[int, typer.Option(min=1, help="Items sampled at once.")]
Full = Annotated[bool, typer.Option("--full", help="Train all weights, not an adapter.")]
Rank = Annotated[int, typer.Option(min=1, help="Rank of the LoRA adapter.")]
Checkpointing = Annotated[
    bool, typer.Option("--checkpointing", help="Gradient checkpointing: less memory, a fifth slower.")
]


class Progress(TrainingCallback):
    """Prints the progress of a stage to stderr."""

    def __init__(self) -> None:
        self._stack, self._advance = ExitStack(), _do_nothing

    def on_rows_skipped(self, counts: Mapping[str, int]) -> None:
        _say_skipped("rows", counts)

    def on_files_unread(self, names: Sequence[str]) -> None:
        if names:
            say(f"files not read: {', '.join(names)}")

    def on_engine_loading(self, service: Service) -> None:
        say_loading(service)

    def on_sampling_begin(self, remaining: int, total: int) -> None:
        if remaining < total:
            say(f"{total - remaining} of {total} items are already sampled")
        self._advance = self._stack.enter_context(bar(err, "sampling", remaining))

    def on_item_sampled(self) -> None:
        self._advance()

    def on_sampling_end(self) -> None:
        self._stack.close()

    def on_trajectories_selected(self, selection: Selection) -> None:
        """Print a table with the shares of trajectories that were kept and rejected, by source."""
        reasons = sorted({reason for count in selection.rates.values() for reason in count} - {"kept"})
        table = Table(Column("source", no_wrap=True), "trajectories", "kept", *reasons)
        for source, count in selection.rates.items():
            shares = (f"{count[reason] / count.total():.0%}" for reason in ("kept", *reasons))
            table.add_row(source, str(count.total()), *shares)
        SafeConsole(stderr=True).print(table)

    def on_trajectories_skipped(self, counts: Mapping[str, int]) -> None:
        _say_skipped("trajectories", counts)

    def on_train_begin(self, counts: Mapping[str, int]) -> None:
        say(", ".join(f"{count:,} {name}" for name, count in counts.items()))


def say_ready(trajectories: Path, data: str) -> None:
    """Print the command that uses a file of trajectories."""
    say(f"{trajectories} is ready: grm train rft {data} --trajectories {trajectories} --out FOLDER")


def say_finished(result: TrainingResult) -> None:
    """Print the metrics of a run and the command that serves its result."""
    for name, value in result.metrics.items():
        if name != "rates":  # the table of on_trajectories_selected has them
            say(f"{name}: {value}")
    say(f"ready: grm serve --profile {result.profile}")


def _say_skipped(what: str, counts: Mapping[str, int]) -> None:
    for reason, count in counts.items():
        if count:
            say(f"{count} {what} skipped: {reason}")


def _do_nothing() -> None:
    pass
