"""grm train: sample, forms, rft, grpo."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from grm_service.assembly import default_source, open_service
from grm_service.catalog import form
from grm_service.cli.console import Engine, ProfileName, err, failing, say, say_loading, settings
from grm_service.errors import BadTask, MissingExtra

if TYPE_CHECKING:
    from grm_service.core.profile import Profile
    from grm_service.engines.choice import Source
    from grm_service.evaluation.items import Item
    from grm_service.settings import Settings
    from grm_service.training.choosing import Choice
    from grm_service.training.runs import Run

app = typer.Typer(help="Train a judge of your own (SPCT).", no_args_is_help=True)

Data = Annotated[str, typer.Argument(help="Items whose best response is known, as grm eval reads them.")]
File = Annotated[Path, typer.Option("--out", help="File of trajectories; what was cut off goes on in it.")]
Folder = Annotated[Path, typer.Option("--out", help="Folder of the run; what was cut off goes on in it.")]
Files = Annotated[list[Path] | None, typer.Option(help="Files of trajectories, one an option.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Items, of every source its share.")]
Seed = Annotated[int, typer.Option(min=0, help="Of orders, sampling and training.")]
Samples = Annotated[int, typer.Option(min=1, max=63, help="Trajectories an item.")]
Hints = Annotated[bool, typer.Option(help="Tell the best response where all were wrong, once.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Items at once.")]
Full = Annotated[bool, typer.Option("--full", help="Train all weights, not an adapter.")]
Rank = Annotated[int, typer.Option(min=1, help="Of the LoRA adapter.")]
Checkpointing = Annotated[bool, typer.Option("--checkpointing", help="Less memory, a fifth slower.")]


@app.command()
def sample(
    data: Data,
    out: File,
    profile: ProfileName = None,
    engine: Engine = None,
    samples: Samples = 3,
    hints: Hints = True,
    limit: Limit = None,
    seed: Seed = 0,
    concurrency: Concurrency = 16,
) -> None:
    """Sample trajectories with any engine: the judge's own, or a stronger judge's (--engine openai)."""
    from grm_service.training.choosing import choose, read_all

    found = settings(engine=engine, profile=profile)
    with failing():
        items = _items(data, limit)
        asyncio.run(_sample(found, items, out, samples, hints, seed, concurrency))
        _show(choose(items, read_all([out]), seed=seed))
    say(f"{out} is ready: grm train rft {data} --trajectories {out} --out FOLDER")


@app.command()
def forms(
    data: Data,
    out: File,
    profile: ProfileName = None,
    samples: Annotated[int, typer.Option(min=1, help="Orders an item.")] = 1,
    limit: Limit = None,
    seed: Seed = 0,
) -> None:
    """Fill in first trajectories from the data, for a model too small to write any that are right."""
    from grm_service.training.forms import fill
    from grm_service.training.trajectories import Setup, TrajectoryFile

    found = settings(profile=profile)
    with failing():
        served, _ = default_source(found)
        items = _items(data, limit)
        with TrajectoryFile(out, Setup(served.name, form(served), "form", "", samples, False, seed)) as file:
            for tried in fill(file.left(items), served, samples, seed):
                file.add(tried)
    say(f"{out} is ready: grm train rft {data} --trajectories {out} --out FOLDER")


@app.command()
def rft(
    data: Data,
    out: Folder,
    profile: ProfileName = None,
    trajectories: Files = None,
    engine: Engine = None,
    samples: Samples = 3,
    hints: Hints = True,
    keep_easy: Annotated[
        bool, typer.Option("--keep-easy", help="Items that were right every time, as of a stronger judge.")
    ] = False,
    general: Annotated[Path | None, typer.Option(help="General instructions, JSON Lines.")] = None,
    general_share: Annotated[float, typer.Option(min=0, max=0.99, help="Of all examples.")] = 0.5,
    limit: Limit = None,
    full: Full = False,
    rank: Rank = 16,
    length: Annotated[int, typer.Option(min=64, help="Tokens of a packed row, and most of one.")] = 1024,
    batch: Annotated[int, typer.Option(min=1, help="Rows a step.")] = 8,
    epochs: Annotated[float, typer.Option(min=0.01)] = 1.0,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="2e-4; 2e-5 of --full.")] = None,
    checkpointing: Checkpointing = False,
    seed: Seed = 0,
    concurrency: Concurrency = 16,
) -> None:
    """Rejective fine-tuning on trajectories that judge right; they are sampled first where none are given."""
    from grm_service.training import general as instructions
    from grm_service.training.choosing import choose, read_all
    from grm_service.training.models import load, require
    from grm_service.training.rft import RFT, fine_tune

    found = settings(engine=engine, profile=profile)
    with failing():
        require()
        served, source = default_source(found)
        items = _items(data, limit)
        if not trajectories:
            trajectories = [out / "trajectories.jsonl"]
            asyncio.run(_sample(found, items, trajectories[0], samples, hints, seed, concurrency))
        _same_form(served, trajectories)
        choice = choose(items, read_all(trajectories), keep_easy, seed)
        _show(choice)
        mixed = instructions.read(general) if general else []
        turns = instructions.share_of(mixed, general_share, len(choice.examples), seed)
        rate = learning_rate or (2e-5 if full else 2e-4)
        asked = RFT(None if full else rank, length, batch, epochs, rate, seed, checkpointing)
        files = {"data": Path(data), "general": general}
        files |= {f"trajectories_{i}": file for i, file in enumerate(trajectories)}
        run = _run(
            out, "rft", served, source, asked, files, keep_easy=keep_easy, limit=limit, general=len(turns)
        )
        learner = load(source, asked.rank)
        say(
            f"{len(choice.examples)} examples, {len(turns)} instructions; {learner.trainable:,} numbers train"
        )
        metrics = fine_tune(run, learner, choice.examples, turns, asked)
        told = {**metrics, "rates": {name: dict(count) for name, count in choice.rates.items()}}
        _say_finished(run.finish(learner, told, f"{served.name}, trained by rejective fine-tuning."), metrics)


@app.command()
def grpo(
    data: Data,
    out: Folder,
    profile: ProfileName = None,
    trajectories: Files = None,
    held: Annotated[float, typer.Option(min=0, max=0.5, help="Share of items that only measure.")] = 0.05,
    steps: Annotated[int, typer.Option(min=1)] = 100,
    groups: Annotated[int, typer.Option(min=1, help="Prompts a step.")] = 8,
    group: Annotated[int, typer.Option(min=2, help="Completions a prompt.")] = 4,
    kl: Annotated[float, typer.Option(min=0, help="Beta; it keeps the form, too.")] = 0.02,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="1e-5; 1e-6 of --full.")] = None,
    temperature: Annotated[float, typer.Option(min=0.01, help="Of sampling.")] = 1.0,
    evaluations: Annotated[int, typer.Option(min=1, help="Of the held-out items, on the way.")] = 5,
    limit: Limit = None,
    full: Full = False,
    rank: Rank = 16,
    checkpointing: Checkpointing = False,
    seed: Seed = 0,
) -> None:
    """Rule-based online RL: +1 for a right judgement, -1 for any other. Items that the trajectories show as
    right every time are left out."""
    from grm_service.evaluation.items import some
    from grm_service.training.choosing import read_all, too_easy
    from grm_service.training.grpo import CURVES, GRPO, reinforce
    from grm_service.training.models import load, require
    from grm_service.training.runs import LOG
    from grm_service.training.watching import draw

    found = settings(profile=profile)
    with failing():
        require()
        served, source = default_source(found)
        items = [item for item in _items(data, limit) if len(item.responses) <= served.most_responses]
        easy = {tried.item for tried in read_all(trajectories or []) if too_easy(tried)}
        measured = some(items, round(len(items) * held))
        apart = {item.id for item in measured}
        left = [item for item in items if item.id not in apart | easy]
        say(f"{len(left)} items; {len(measured)} only measure, {len(easy)} are too easy")
        rate = learning_rate or (1e-6 if full else 1e-5)
        asked = GRPO(
            None if full else rank,
            steps,
            groups,
            group,
            kl,
            rate,
            temperature,
            evaluations,
            seed,
            checkpointing,
        )
        files = {"data": Path(data)} | {
            f"trajectories_{i}": file for i, file in enumerate(trajectories or [])
        }
        run = _run(out, "grpo", served, source, asked, files, held=held, limit=limit)
        learner = load(source, asked.rank)
        metrics = reinforce(run, learner, left, measured, asked)
        _say_finished(run.finish(learner, metrics, f"{served.name}, trained by online RL (GRPO)."), metrics)
        try:
            draw(out / LOG, CURVES, out / "curves.png")
        except MissingExtra as missing:
            say(f"{missing}; {out / LOG} has the figures")


def _items(data: str, limit: int | None) -> list[Item]:
    """Those that one response is the best of: of a tie nothing can be learnt."""
    from grm_service.evaluation.items import some
    from grm_service.evaluation.reading import read

    rows = read(data)
    items = [item for item in rows.items if len(item.correct) == 1]
    left_out = rows.left_out | {"no single best response": len(rows.items) - len(items)}
    for why, count in left_out.items():
        if count:
            say(f"{count} rows left out: {why}")
    return items if limit is None else some(items, limit)


async def _sample(
    found: Settings, items: list[Item], out: Path, samples: int, hints: bool, seed: int, at_once: int
) -> None:
    from grm_service.cli.terminal import bar
    from grm_service.training.models import processes
    from grm_service.training.sampling import sample_all
    from grm_service.training.trajectories import Setup, TrajectoryFile

    if processes() > 1:
        raise BadTask("several processes cannot sample into one file: run grm train sample before")
    service = open_service(found)
    engine, profile = service.engine, service.profile
    try:
        say_loading(service)
        await engine.start()
        setup = Setup(profile.name, form(profile), engine.name, engine.model, samples, hints, seed)
        with TrajectoryFile(out, setup) as file:
            left = len(file.left(items))
            if left < len(items):
                say(f"{len(items) - left} of {len(items)} items were sampled before")
            with bar(err, "sampling", left) as advance:
                await sample_all(items, file, engine, profile, at_once, advance)
    finally:
        await service.close()


def _same_form(profile: Profile, files: list[Path]) -> None:
    from grm_service.training.trajectories import read

    for file in files:
        setup, _ = read(file)
        if setup.form != form(profile):
            raise BadTask(
                f"{file} was made with the profile {setup.profile}, whose prompt or form is not that of "
                f"{profile.name} now: sample it again"
            )


def _run(
    out: Path,
    kind: str,
    profile: Profile,
    source: Source,
    asked: Any,
    files: Mapping[str, Path | None],
    **more: Any,
) -> Run:
    from grm_service.training.runs import Run, sha256

    hashes = {name: sha256(file) for name, file in files.items() if file is not None and file.is_file()}
    return Run(out, kind, replace(profile, model=source.model), {**asdict(asked), **more, "sha256": hashes})


def _show(choice: Choice) -> None:
    """What became of the trajectories, by source."""
    reasons = sorted({reason for count in choice.rates.values() for reason in count} - {"kept"})
    table = Table("source", "trajectories", "kept", *reasons)
    for source, count in choice.rates.items():
        total = count.total()
        shares = (f"{count[reason] / total:.0%}" for reason in ("kept", *reasons))
        table.add_row(source, str(total), *shares)
    Console(stderr=True).print(table)


def _say_finished(profile: Path, metrics: dict[str, Any]) -> None:
    for name, value in metrics.items():
        say(f"{name}: {value}")
    say(f"ready: grm serve --profile {profile}")
