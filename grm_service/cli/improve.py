"""grm improve, pairs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from grm_service.addresses import without_credentials
from grm_service.cli.console import (
    Engine,
    ProfileName,
    SafeConsole,
    err,
    exit_on_error,
    put_json,
    read_request,
    say,
    say_loading,
    settings,
)
from grm_service.cli.judge_options import Given, judge_options, to_fields, to_options
from grm_service.factory import open_policy, open_service
from grm_service.profiles.catalog import fingerprint

if TYPE_CHECKING:
    from grm_service.api.schemas import ImproveRequest
    from grm_service.improving.lineage import Improvement
    from grm_service.improving.pairs import PairsReport, PairThresholds
    from grm_service.improving.prompt_file import PromptItem
    from grm_service.improving.run_folder import PairsSetup
    from grm_service.settings import Settings
    from grm_service.types import JudgeOptions

# Here --max-tokens and --temperature are the policy's.
_FLAGS = {"max_tokens": "critique_tokens", "temperature": "critique_temperature"}


@judge_options(flags=_FLAGS)
def improve(
    file: Annotated[Path | None, typer.Argument(help="A JSON request; stdin if omitted or -.")] = None,
    engine: Engine = None,
    profile: ProfileName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reply of /v1/improve as JSON.")] = False,
    *,
    given: Given,
) -> None:
    """Improve one answer, with a request in the format of POST /v1/improve, and show its lineage.

    The judge options override the request's fields.
    """
    from grm_service.api.lineage import ImproveReply
    from grm_service.api.schemas import ImproveRequest
    from grm_service.cli.lineage import show

    config = settings(engine=engine, profile=profile)
    with exit_on_error():
        request = read_request(ImproveRequest, file, to_fields(given, _FLAGS))
        improvement = asyncio.run(_improve(config, request))
    if as_json:
        put_json(ImproveReply.of(improvement, request.detail).model_dump_json(indent=2))
    else:
        show(SafeConsole(), improvement)


@judge_options(flags=_FLAGS)
def pairs(
    prompts: Annotated[
        Path, typer.Argument(help="Data file with prompt, and optionally system, id and drafts.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of pairs.jsonl; an interrupted run resumes in it.")],
    engine: Engine = None,
    profile: ProfileName = None,
    n: Annotated[int, typer.Option(min=2, max=64, help="Drafts per prompt that has none.")] = 4,
    margin: Annotated[float, typer.Option(min=0.0, help="Least difference of rewards in a pair.")] = 1.0,
    agreement: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Least share of samples that score chosen over rejected.")
    ] = 0.75,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of a draft.")] = 512,
    temperature: Annotated[
        float, typer.Option(min=0.0, max=2.0, help="Sampling temperature of the policy.")
    ] = 0.8,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first LIMIT prompts.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Prompts processed at once.")] = 8,
    *,
    given: Given,
) -> None:
    """Make preference pairs for DPO or reward models, in TRL's format, from drafts and the judge's votes."""
    from grm_service.improving.pairs import PairThresholds
    from grm_service.improving.prompt_file import read_prompts
    from grm_service.improving.run_folder import PAIRS

    config = settings(engine=engine, profile=profile)
    with exit_on_error():
        setup = _setup(config, to_options(given), n, max_tokens, temperature)
        items = read_prompts(prompts)[:limit]
        thresholds = PairThresholds(margin, agreement)
        report = asyncio.run(_pairs(config, items, out, setup, thresholds, concurrency))
    _show(report)
    say(f"{out / PAIRS}: {report.pairs} pairs of {report.prompts} prompts")


async def _improve(config: Settings, request: ImproveRequest) -> Improvement:
    from grm_service.cli.lineage import progress
    from grm_service.improving.loop import improve as run

    service = open_service(config)
    policy = open_policy(config, service)
    say_loading(service)
    try:
        await service.start()
        with progress(err) as on_event:
            return await run(service, policy, request.to_improve_task(), on_event)
    finally:
        await policy.close()
        await service.close()


def _setup(
    config: Settings, options: JudgeOptions, n: int, max_tokens: int, temperature: float
) -> PairsSetup:
    """Return the setup of a run; `_pairs` adds engine and profile."""
    from grm_service.improving.run_folder import PairsSetup

    policy = " ".join(filter(None, (config.policy_url, config.policy_model)))
    return PairsSetup(
        policy=without_credentials(policy) or "judge",
        engine="",
        profile="",
        fingerprint="",
        n=n,
        k=options.k,
        max_tokens=max_tokens,
        temperature=temperature,
        principles=options.principles.mode,
        principle_set=options.principles.set_name,
        seed=options.seed,
        k_meta=options.k_meta,
        score=options.score,
        stop=options.stop,
        timeout_s=options.timeout_s,
        critique_tokens=options.max_tokens,
        critique_temperature=options.temperature,
        thinking_tokens=options.thinking_tokens,
    )


async def _pairs(
    config: Settings,
    prompts: list[PromptItem],
    out: Path,
    setup: PairsSetup,
    thresholds: PairThresholds,
    concurrency: int,
) -> PairsReport:
    from grm_service.cli.terminal import bar
    from grm_service.improving.pairs import judge_prompts, write_pairs
    from grm_service.improving.run_folder import PairsFolder

    service = open_service(config)
    policy, profile = open_policy(config, service), service.profile
    setup = replace(
        setup,
        engine=service.engine.name,
        profile=profile.name,
        fingerprint=fingerprint(profile),
        score=setup.score or profile.sampling.score,
    )
    with PairsFolder(out, setup) as folder:
        remaining = len(folder.remaining(prompts))
        if remaining < len(prompts):
            say(f"{len(prompts) - remaining} of {len(prompts)} prompts were judged before")
        try:
            if remaining:
                say_loading(service)
                await service.start()
                with bar(err, "comparing", remaining) as advance:
                    await judge_prompts(prompts, folder, service, policy, concurrency, advance)
        finally:
            await policy.close()
            await service.close()
        return write_pairs(prompts, folder, thresholds)


def _show(report: PairsReport) -> None:
    """Print how many prompts made a pair, or were dropped and why."""
    table = Table("outcome", "prompts", "share")
    for name, n in {"pair": report.pairs, **report.dropped}.items():
        table.add_row(name, str(n), f"{n / report.prompts:.0%}")
    SafeConsole(stderr=True).print(table)
    if report.pairs:
        longer = report.longer / report.pairs
        say(f"mean margin {report.margin:.2f}; the chosen draft is the longer one in {longer:.0%} of pairs")
