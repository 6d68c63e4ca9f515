"""grm train: sample, forms, rft, grpo, meta-rm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grm_service.cli.console import Engine, ProfileName, exit_on_error, settings
from grm_service.cli.judge_options import Given, judge_options, to_options
from grm_service.cli.train_common import (
    Checkpointing,
    Concurrency,
    DataArg,
    File,
    Files,
    Full,
    Hints,
    Limit,
    Progress,
    Rank,
    RunOut,
    Samples,
    Seed,
    say_finished,
    say_ready,
)
from grm_service.types import JudgeOptions

app = typer.Typer(help="Train a judge of your own (SPCT).", no_args_is_help=True)


@app.command()
@judge_options(leave_out=("k", "k_meta", "stop", "timeout_s"))
def sample(
    data: DataArg,
    out: File,
    given: Given,
    profile: ProfileName = None,
    engine: Engine = None,
    samples: Samples = 3,
    hints: Hints = True,
    limit: Limit = None,
    concurrency: Concurrency = 16,
) -> None:
    """Sample trajectories from the profile's own judge, or from a stronger one (--engine openai)."""
    from grm_service.training import SamplingConfig, sample_trajectories

    settings(engine=engine, profile=profile)
    with exit_on_error():
        config = SamplingConfig(samples, hints, concurrency, to_options(given))
        sample_trajectories(
            config, data=data, out=out, profile=profile, engine=engine, limit=limit, callback=Progress()
        )
    say_ready(out, data)


@app.command()
def forms(
    data: DataArg,
    out: File,
    profile: ProfileName = None,
    samples: Annotated[int, typer.Option(min=1, help="Forms per item, each in another order.")] = 1,
    limit: Limit = None,
    seed: Seed = 0,
) -> None:
    """Fill in first trajectories from the data, for a model that is too small to sample right ones."""
    from grm_service.training import fill_trajectories

    settings(profile=profile)
    with exit_on_error():
        fill_trajectories(
            data=data,
            out=out,
            profile=profile,
            samples=samples,
            seed=seed,
            limit=limit,
            callback=Progress(),
        )
    say_ready(out, data)


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
        bool, typer.Option("--from-base", help="Start from the profile's model without its adapter.")
    ] = False,
    only_scores: Annotated[
        bool,
        typer.Option(
            "--only-scores", help="Train on the scores only, if the model knows the format already."
        ),
    ] = False,
    keep_easy: Annotated[
        bool,
        typer.Option("--keep-easy", help="Keep items that are right every time (a stronger judge's)."),
    ] = False,
    general: Annotated[Path | None, typer.Option(help="General instructions, JSON Lines.")] = None,
    general_share: Annotated[
        float, typer.Option(min=0, max=0.99, help="Share of general instructions in all examples.")
    ] = 0.5,
    limit: Limit = None,
    full: Full = False,
    rank: Rank = 16,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Put the LoRA adapter on the last layers only: faster.")
    ] = None,
    length: Annotated[
        int, typer.Option(min=64, help="Tokens of a packed row; longer examples are left out.")
    ] = 1024,
    batch: Annotated[int, typer.Option(min=1, help="Rows per step.")] = 8,
    epochs: Annotated[float, typer.Option(min=0.01)] = 1.0,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Default: 2e-4, with --full 2e-5.")
    ] = None,
    checkpointing: Checkpointing = False,
    seed: Seed = 0,
    concurrency: Concurrency = 16,
) -> None:
    """Rejective fine-tuning on trajectories that judge right; sampled first, unless --trajectories is set."""
    from grm_service.training import RFTConfig, SamplingConfig, run_rft

    settings(engine=engine, profile=profile)
    config = RFTConfig(
        rank=None if full else rank,
        layers=layers,
        length=length,
        batch=batch,
        epochs=epochs,
        learning_rate=learning_rate or (2e-5 if full else 2e-4),
        seed=seed,
        checkpointing=checkpointing,
        only_scores=only_scores,
    )
    with exit_on_error():
        result = run_rft(
            config,
            data=data,
            out=out,
            profile=profile,
            engine=engine,
            trajectories=trajectories or (),
            sampling=SamplingConfig(samples, hints, concurrency, JudgeOptions(seed=seed)),
            from_base=from_base,
            keep_easy=keep_easy,
            general=general,
            general_share=general_share,
            limit=limit,
            callback=Progress(),
        )
    say_finished(result)


@app.command()
def grpo(
    data: DataArg,
    out: RunOut,
    profile: ProfileName = None,
    trajectories: Files = None,
    held_out: Annotated[
        float, typer.Option("--held", min=0, max=0.5, help="Share of items held out for evaluation.")
    ] = 0.05,
    steps: Annotated[int, typer.Option(min=1)] = 100,
    groups: Annotated[int, typer.Option(min=1, help="Prompts per step.")] = 8,
    group: Annotated[int, typer.Option(min=2, help="Completions per prompt.")] = 4,
    beta: Annotated[
        float, typer.Option("--kl", min=0, help="Weight of the KL term (beta), which preserves the format.")
    ] = 0.02,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Default: 1e-5, with --full 1e-6.")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0.01, help="Sampling temperature.")] = 1.0,
    length: Annotated[
        int, typer.Option(min=64, help="Maximum tokens of a prompt; items with longer ones are left out.")
    ] = 2048,
    evaluations: Annotated[
        int, typer.Option(min=1, help="Evaluations on the held-out items, evenly spaced.")
    ] = 5,
    limit: Limit = None,
    full: Full = False,
    rank: Rank = 16,
    checkpointing: Checkpointing = False,
    seed: Seed = 0,
) -> None:
    """Rule-based online RL (GRPO) with reward +1 for a right judgement and -1 for any other. Items that are
    right every time in --trajectories are left out."""
    from grm_service.training import GRPOConfig, run_grpo

    settings(profile=profile)
    config = GRPOConfig(
        rank=None if full else rank,
        steps=steps,
        groups=groups,
        group=group,
        beta=beta,
        learning_rate=learning_rate or (1e-6 if full else 1e-5),
        temperature=temperature,
        length=length,
        evaluations=evaluations,
        seed=seed,
        checkpointing=checkpointing,
    )
    with exit_on_error():
        result = run_grpo(
            config,
            data=data,
            out=out,
            profile=profile,
            trajectories=trajectories or (),
            held_out=held_out,
            limit=limit,
            callback=Progress(),
        )
    say_finished(result)


@app.command("meta-rm")
def meta_rm(
    data: DataArg,
    out: RunOut,
    trajectories: Annotated[list[Path], typer.Option(help="File of sampled trajectories; can be repeated.")],
    profile: ProfileName = None,
    held_out: Annotated[
        float, typer.Option("--held", min=0, max=0.5, help="Share of items held out for evaluation.")
    ] = 0.1,
    limit: Limit = None,
    full: Full = False,
    rank: Rank = 16,
    length: Annotated[
        int, typer.Option(min=64, help="Maximum tokens of a judgement; longer ones are left out.")
    ] = 2048,
    batch: Annotated[int, typer.Option(min=1, help="Judgements per step.")] = 16,
    epochs: Annotated[float, typer.Option(min=0.01)] = 1.0,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Default: 1e-4, with --full 1e-5.")
    ] = None,
    checkpointing: Checkpointing = False,
    seed: Seed = 0,
) -> None:
    """Train a meta RM, which grades the judge's samples so that only the best are voted. It starts from the
    judge's weights."""
    from grm_service.training import MetaRMConfig, run_meta_rm

    settings(profile=profile)
    config = MetaRMConfig(
        rank=None if full else rank,
        length=length,
        batch=batch,
        epochs=epochs,
        learning_rate=learning_rate or (1e-5 if full else 1e-4),
        seed=seed,
        checkpointing=checkpointing,
    )
    with exit_on_error():
        result = run_meta_rm(
            config,
            data=data,
            out=out,
            trajectories=trajectories,
            profile=profile,
            held_out=held_out,
            limit=limit,
            callback=Progress(),
        )
    say_finished(result)
