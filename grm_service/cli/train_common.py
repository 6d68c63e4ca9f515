"""What the commands of grm train do alike: options, items, trajectories, the run and its end."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from grm_service.cli.console import err, say, say_loading
from grm_service.errors import BadTask
from grm_service.factory import open_service
from grm_service.profiles.catalog import fingerprint, format_fingerprint

if TYPE_CHECKING:
    from grm_service.engines.choice import Source
    from grm_service.evaluation.dataset import Item
    from grm_service.profiles.profile import Profile
    from grm_service.settings import Settings
    from grm_service.training.rejection_sampling import Choice
    from grm_service.training.runs import TrainingRun

DataArg = Annotated[str, typer.Argument(help="Items whose best response is known, as grm eval reads them.")]
File = Annotated[Path, typer.Option("--out", help="File of trajectories; what was cut off goes on in it.")]
RunOut = Annotated[Path, typer.Option("--out", help="Folder of the run; an interrupted run resumes in it.")]
Files = Annotated[list[Path] | None, typer.Option(help="Files of trajectories, one an option.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Items, of every source its share.")]
Seed = Annotated[int, typer.Option(min=0, help="Of orders, sampling and training.")]
Samples = Annotated[int, typer.Option(min=1, max=63, help="Trajectories an item.")]
Hints = Annotated[bool, typer.Option(help="Tell the best response where all were wrong, once.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Items at once.")]
Full = Annotated[bool, typer.Option("--full", help="Train all weights, not an adapter.")]
Rank = Annotated[int, typer.Option(min=1, help="Of the LoRA adapter.")]
Checkpointing = Annotated[bool, typer.Option("--checkpointing", help="Less memory, a fifth slower.")]


def items_of(data: str, limit: int | None) -> list[Item]:
    """Those that one response is the best of: of a tie nothing can be learnt."""
    from grm_service.evaluation.dataset import subset
    from grm_service.evaluation.loading import load

    rows = load(data)
    items = [item for item in rows.items if len(item.correct) == 1]
    left_out = rows.left_out | {"no single best response": len(rows.items) - len(items)}
    for why, count in left_out.items():
        if count:
            say(f"{count} rows left out: {why}")
    return items if limit is None else subset(items, limit)


async def sample_into(
    found: Settings, items: list[Item], out: Path, samples: int, hints: bool, seed: int, at_once: int
) -> None:
    """Samples trajectories of the items that are not in the file yet. Raises GRMError."""
    from grm_service.cli.terminal import bar
    from grm_service.training.models import processes
    from grm_service.training.sampling import sample_all
    from grm_service.training.trajectories import TrajectoryFile, TrajectorySetup

    if processes() > 1:
        raise BadTask("several processes cannot sample into one file: run grm train sample before")
    service = open_service(found)
    engine, profile = service.engine, service.profile
    try:
        say_loading(service)
        await engine.start()
        made_by = profile.name, format_fingerprint(profile), engine.name, engine.model
        setup = TrajectorySetup(*made_by, samples, hints, seed, fingerprint(profile))
        with TrajectoryFile(out, setup) as file:
            left = len(file.left(items))
            if left < len(items):
                say(f"{len(items) - left} of {len(items)} items were sampled before")
            with bar(err, "sampling", left) as advance:
                await sample_all(items, file, engine, profile, at_once, advance)
    finally:
        await service.close()


def same_form(profile: Profile, files: list[Path]) -> None:
    """Raises BadTask where a file's trajectories are not of the profile's prompt and form."""
    from grm_service.training.trajectories import read

    for file in files:
        setup, _ = read(file)
        if setup.form != format_fingerprint(profile):
            raise BadTask(
                f"{file} was made with the profile {setup.profile}, whose prompt or form is not that of "
                f"{profile.name} now: sample it again"
            )


def run_of(
    out: Path,
    kind: str,
    profile: Profile,
    source: Source,
    asked: Any,
    items: Sequence[Item],
    files: Mapping[str, Path | None],
    **more: Any,
) -> TrainingRun:
    """The run into a folder, with hashes of items and files, which decide what comes out. Raises BadTask."""
    from grm_service.engines.files.weights import sha256
    from grm_service.training.runs import TrainingRun

    hashes = {name: sha256(file) for name, file in files.items() if file is not None}
    # Whatever they were read from: a file, a folder or a hub.
    told = "\n".join(f"{item.id} {item.digest}" for item in items)
    hashes["data"] = hashlib.sha256(told.encode()).hexdigest()
    return TrainingRun(
        out, kind, replace(profile, model=source.model), {**asdict(asked), **more, "sha256": hashes}
    )


def show(choice: Choice) -> None:
    """What became of the trajectories, by source."""
    reasons = sorted({reason for count in choice.rates.values() for reason in count} - {"kept"})
    table = Table("source", "trajectories", "kept", *reasons)
    for source, count in choice.rates.items():
        total = count.total()
        shares = (f"{count[reason] / total:.0%}" for reason in ("kept", *reasons))
        table.add_row(source, str(total), *shares)
    Console(stderr=True).print(table)


def say_finished(profile: Path, metrics: dict[str, Any]) -> None:
    """The run's figures, and how its result is served."""
    for name, value in metrics.items():
        say(f"{name}: {value}")
    say(f"ready: grm serve --profile {profile}")
