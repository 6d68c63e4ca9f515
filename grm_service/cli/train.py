"""grm train: sample, forms, rft, grpo, meta-rm."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from grm_service.cli.console import Engine, ProfileName, exit_on_error, say, settings
from grm_service.cli.train_common import (
    Checkpointing,
    Concurrency,
    DataArg,
    File,
    Files,
    Full,
    Hints,
    Limit,
    Rank,
    RunOut,
    Samples,
    Seed,
    items_of,
    run_of,
    same_form,
    sample_into,
    say_finished,
    show,
)
from grm_service.errors import MissingExtra
from grm_service.factory import default_source
from grm_service.profiles.catalog import fingerprint, format_fingerprint

app = typer.Typer(help="Train a judge of your own (SPCT).", no_args_is_help=True)


@app.command()
def sample(
    data: DataArg,
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
    from grm_service.training.rejection_sampling import choose, read_all

    found = settings(engine=engine, profile=profile)
    with exit_on_error():
        items = items_of(data, limit)
        asyncio.run(sample_into(found, items, out, samples, hints, seed, concurrency))
        show(choose(items, read_all([out]), seed=seed))
    say(f"{out} is ready: grm train rft {data} --trajectories {out} --out FOLDER")


@app.command()
def forms(
    data: DataArg,
    out: File,
    profile: ProfileName = None,
    samples: Annotated[int, typer.Option(min=1, help="Orders an item.")] = 1,
    limit: Limit = None,
    seed: Seed = 0,
) -> None:
    """Fill in first trajectories from the data, for a model too small to write any that are right."""
    from grm_service.training.cold_start import fill
    from grm_service.training.trajectories import TrajectoryFile, TrajectorySetup

    found = settings(profile=profile)
    with exit_on_error():
        served, _ = default_source(found)
        items = items_of(data, limit)
        setup = TrajectorySetup(
            served.name, format_fingerprint(served), "form", "", samples, False, seed, fingerprint(served)
        )
        with TrajectoryFile(out, setup) as file:
            for tried in fill(file.left(items), served, samples, seed):
                file.add(tried)
    say(f"{out} is ready: grm train rft {data} --trajectories {out} --out FOLDER")


@app.command()
def rft(
    data: DataArg,
    out: RunOut,
    profile: ProfileName = None,
    trajectories: Files = None,
    engine: Engine = None,
    samples: Samples = 3,
    hints: Hints = True,
    from_base: Annotated[
        bool, typer.Option("--from-base", help="Begin from the profile's model without its adapter.")
    ] = False,
    only_scores: Annotated[
        bool, typer.Option("--only-scores", help="Learn the scores alone, where the form is there already.")
    ] = False,
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
    from grm_service.training import instruction_data as instructions
    from grm_service.training.models import load, require
    from grm_service.training.rejection_sampling import choose, read_all
    from grm_service.training.rft import RFTConfig, fine_tune

    found = settings(engine=engine, profile=profile)
    with exit_on_error():
        require()
        served, source = default_source(found)
        if from_base:
            source = replace(source, adapter=None)
        items = items_of(data, limit)
        if not trajectories:
            trajectories = [out / "trajectories.jsonl"]
            asyncio.run(sample_into(found, items, trajectories[0], samples, hints, seed, concurrency))
        same_form(served, trajectories)
        choice = choose(items, read_all(trajectories), keep_easy, seed)
        show(choice)
        mixed = instructions.read(general) if general else []
        turns = instructions.share_of(mixed, general_share, len(choice.examples), seed)
        rate = learning_rate or (2e-5 if full else 2e-4)
        asked = RFTConfig(
            None if full else rank, length, batch, epochs, rate, seed, checkpointing, only_scores
        )
        files = {"general": general} | {f"trajectories_{i}": file for i, file in enumerate(trajectories)}
        chosen = {"from_base": from_base, "keep_easy": keep_easy, "limit": limit, "general": len(turns)}
        run = run_of(out, "rft", served, source, asked, items, files, **chosen)
        learner = load(source, asked.rank)
        say(
            f"{len(choice.examples)} examples, {len(turns)} instructions; {learner.trainable:,} numbers train"
        )
        metrics = fine_tune(run, learner, choice.examples, turns, asked)
        told = {**metrics, "rates": {name: dict(count) for name, count in choice.rates.items()}}
        say_finished(run.finish(learner, told, f"{served.name}, trained by rejective fine-tuning."), metrics)


@app.command()
def grpo(
    data: DataArg,
    out: RunOut,
    profile: ProfileName = None,
    trajectories: Files = None,
    held: Annotated[float, typer.Option(min=0, max=0.5, help="Share of items that only measure.")] = 0.05,
    steps: Annotated[int, typer.Option(min=1)] = 100,
    groups: Annotated[int, typer.Option(min=1, help="Prompts a step.")] = 8,
    group: Annotated[int, typer.Option(min=2, help="Completions a prompt.")] = 4,
    kl: Annotated[float, typer.Option(min=0, help="Beta; it keeps the form, too.")] = 0.02,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="1e-5; 1e-6 of --full.")] = None,
    temperature: Annotated[float, typer.Option(min=0.01, help="Of sampling.")] = 1.0,
    length: Annotated[int, typer.Option(min=64, help="Most tokens of a prompt.")] = 2048,
    evaluations: Annotated[int, typer.Option(min=1, help="Of the held-out items, on the way.")] = 5,
    limit: Limit = None,
    full: Full = False,
    rank: Rank = 16,
    checkpointing: Checkpointing = False,
    seed: Seed = 0,
) -> None:
    """Rule-based online RL: +1 for a right judgement, -1 for any other. Items that the trajectories show as
    right every time are left out."""
    from grm_service.evaluation.dataset import subset
    from grm_service.training.grpo import CURVES, GRPOConfig, reinforce
    from grm_service.training.models import load, require
    from grm_service.training.rejection_sampling import read_all, too_easy
    from grm_service.training.runs import LOG
    from grm_service.training.trainer_log import draw

    found = settings(profile=profile)
    with exit_on_error():
        require()
        served, source = default_source(found)
        items = [item for item in items_of(data, limit) if len(item.responses) <= served.most_responses]
        easy = {tried.item for tried in read_all(trajectories or []) if too_easy(tried)}
        measured = subset(items, round(len(items) * held))
        apart = {item.id for item in measured}
        left = [item for item in items if item.id not in apart | easy]
        say(f"{len(left)} items; {len(measured)} only measure, {len(easy)} are too easy")
        rate = learning_rate or (1e-6 if full else 1e-5)
        asked = GRPOConfig(
            None if full else rank,
            steps,
            groups,
            group,
            kl,
            rate,
            temperature,
            length,
            evaluations,
            seed,
            checkpointing,
        )
        files = {f"trajectories_{i}": file for i, file in enumerate(trajectories or [])}
        run = run_of(out, "grpo", served, source, asked, items, files, held=held, limit=limit)
        learner = load(source, asked.rank)
        metrics = reinforce(run, learner, left, measured, asked)
        say_finished(run.finish(learner, metrics, f"{served.name}, trained by online RL (GRPO)."), metrics)
        try:
            draw(out / LOG, CURVES, out / "curves.png")
        except MissingExtra as missing:
            say(f"{missing}; {out / LOG} has the figures")


@app.command("meta-rm")
def meta_rm(
    data: DataArg,
    out: RunOut,
    trajectories: Annotated[list[Path], typer.Option(help="Files of trajectories, one an option.")],
    profile: ProfileName = None,
    held: Annotated[float, typer.Option(min=0, max=0.5, help="Share of items that only measure.")] = 0.1,
    limit: Limit = None,
    full: Full = False,
    rank: Rank = 16,
    length: Annotated[int, typer.Option(min=64, help="Most tokens of a judgement.")] = 2048,
    batch: Annotated[int, typer.Option(min=1, help="Judgements a step.")] = 16,
    epochs: Annotated[float, typer.Option(min=0.01)] = 1.0,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="1e-4; 1e-5 of --full.")] = None,
    checkpointing: Checkpointing = False,
    seed: Seed = 0,
) -> None:
    """A model that grades the judge's samples, so that the best of them are voted; begun from the judge."""
    from grm_service.training.meta_rm import MetaRMConfig, judgements, split, train
    from grm_service.training.models import load_classifier, require
    from grm_service.training.rejection_sampling import read_all

    found = settings(profile=profile)
    with exit_on_error():
        require()
        served, source = default_source(found)
        same_form(served, trajectories)
        items = items_of(data, limit)
        examples, left_out = judgements(items, read_all(trajectories))
        for why, count in left_out.items():
            say(f"{count} trajectories left out: {why}")
        learnt, measured = split(examples, held)
        rate = learning_rate or (1e-5 if full else 1e-4)
        asked = MetaRMConfig(None if full else rank, length, batch, epochs, rate, seed, checkpointing)
        files = {f"trajectories_{i}": file for i, file in enumerate(trajectories)}
        run = run_of(out, "meta-rm", served, source, asked, items, files, held=held, limit=limit)
        learner = load_classifier(source, asked.rank)
        say(f"{len(learnt)} judgements, {len(measured)} only measure; {learner.trainable:,} numbers train")
        file, metrics = train(run, learner, learnt, measured, asked)
        say_finished(file, metrics)
