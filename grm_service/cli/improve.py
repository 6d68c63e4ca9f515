"""grm improve, pairs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from grm_service.cli.console import (
    Engine,
    ProfileName,
    err,
    failing,
    principles_asked,
    read_request,
    say,
    say_loading,
    settings,
)
from grm_service.factory import open_policy, open_service
from grm_service.profiles.catalog import fingerprint

if TYPE_CHECKING:
    from grm_service.api.schemas import ImproveRequest
    from grm_service.improving.lineage import Improvement
    from grm_service.improving.pairs import PairsReport, PairThresholds
    from grm_service.improving.prompts import PromptItem
    from grm_service.improving.run_folder import PairsSetup
    from grm_service.settings import Settings


def improve(
    file: Annotated[Path | None, typer.Argument(help="A request as JSON; - or nothing reads stdin.")] = None,
    engine: Engine = None,
    profile: ProfileName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reply as /v1/improve gives it.")] = False,
) -> None:
    """Improve one answer, as POST /v1/improve takes it, and show where it came from."""
    from grm_service.api.lineage import ImproveReply
    from grm_service.api.schemas import ImproveRequest
    from grm_service.cli.lineage import show

    found = settings(engine=engine, profile=profile)
    request = read_request(ImproveRequest, file)
    with failing():
        whole = asyncio.run(_improve(found, request))
    if as_json:
        print(ImproveReply.of(whole, request.detail).model_dump_json(indent=2))  # noqa: T201
    else:
        show(Console(), whole)


def pairs(
    prompts: Annotated[
        Path, typer.Argument(help="JSON Lines: prompt, and id and drafts where there are any.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of pairs.jsonl; an interrupted run resumes in it.")],
    engine: Engine = None,
    profile: ProfileName = None,
    n: Annotated[int, typer.Option(min=2, max=64, help="Drafts a prompt, where none are given.")] = 4,
    k: Annotated[int | None, typer.Option(min=1, max=64, help="Samples a verdict (profile).")] = None,
    margin: Annotated[float, typer.Option(min=0.0, help="Least distance of a pair's rewards.")] = 1.0,
    agreement: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Least share of samples that put the chosen one above.")
    ] = 0.75,
    max_tokens: Annotated[int, typer.Option(min=1, help="A draft may take.")] = 512,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="Of the policy.")] = 0.8,
    principles: Annotated[str, typer.Option(help="self, query or fixed; MODE:SET names a set.")] = "self",
    seed: Annotated[int, typer.Option(min=0, help="Of drafts, orders and sampling.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Prompts, from the first.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Prompts at once.")] = 8,
) -> None:
    """Preference pairs for DPO or reward models, in TRL's columns, out of drafts and the judge's votes."""
    from grm_service.improving.pairs import PairThresholds
    from grm_service.improving.prompts import read
    from grm_service.improving.run_folder import PAIRS, PairsSetup

    found = settings(engine=engine, profile=profile)
    with failing():
        mode, set_name = principles_asked(principles)
        setup = PairsSetup(
            policy=" ".join(filter(None, (found.policy_url, found.policy_model))) or "judge",
            engine="",
            profile="",
            fingerprint="",
            n=n,
            k=k,
            max_tokens=max_tokens,
            temperature=temperature,
            principles=mode,
            principle_set=set_name,
            seed=seed,
        )
        asked = read(prompts)[:limit]
        report = asyncio.run(_pairs(found, asked, out, setup, PairThresholds(margin, agreement), concurrency))
    _show(report)
    say(f"{out / PAIRS}: {report.kept} pairs of {report.prompts} prompts")


async def _improve(found: Settings, request: ImproveRequest) -> Improvement:
    from grm_service.cli.lineage import telling
    from grm_service.improving.loop import improve as run

    service = open_service(found)
    policy = open_policy(found, service)
    say_loading(service)
    try:
        await service.start()
        with telling(err) as tell:
            return await run(service, policy, request.to_improve_task(), tell)
    finally:
        await policy.close()
        await service.close()


async def _pairs(
    found: Settings,
    asked: list[PromptItem],
    out: Path,
    setup: PairsSetup,
    least: PairThresholds,
    at_once: int,
) -> PairsReport:
    from grm_service.cli.terminal import bar
    from grm_service.improving.pairs import compare_all, write
    from grm_service.improving.run_folder import PairsFolder

    service = open_service(found)
    policy, profile = open_policy(found, service), service.profile
    setup = replace(setup, engine=service.engine.name, profile=profile.name, fingerprint=fingerprint(profile))
    with PairsFolder(out, setup) as folder:
        left = len(folder.left(asked))
        if left < len(asked):
            say(f"{len(asked) - left} of {len(asked)} prompts were judged before")
        try:
            if left:
                say_loading(service)
                await service.start()
                with bar(err, "comparing", left) as advance:
                    await compare_all(asked, folder, service, policy, at_once, advance)
        finally:
            await policy.close()
            await service.close()
        return write(asked, folder, least)


def _show(report: PairsReport) -> None:
    """What became of the prompts."""
    table = Table("prompts", "of them", "share")
    for name, n in {"kept": report.kept, **report.dropped}.items():
        table.add_row(name, str(n), f"{n / report.prompts:.0%}")
    Console(stderr=True).print(table)
    if report.kept:
        longer = report.longer / report.kept
        say(f"mean margin {report.margin:.2f}; the chosen draft is the longer one in {longer:.0%} of pairs")
