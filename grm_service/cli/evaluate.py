"""grm eval: run (which need not be said), compare and check."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markdown import Markdown
from typer.core import TyperGroup

from grm_service.cli.console import (
    Engine,
    ProfileName,
    err,
    failing,
    principles_asked,
    say,
    say_loading,
    settings,
)
from grm_service.errors import BadTask
from grm_service.evaluation.run_folder import EvalSetup, JudgeKind
from grm_service.factory import open_catalog, open_service
from grm_service.profiles.catalog import fingerprint
from grm_service.types import ScoreKind

if TYPE_CHECKING:
    from grm_service.evaluation.dataset import Item
    from grm_service.evaluation.judges import JudgeItem
    from grm_service.evaluation.run_folder import ItemResult, RunFolder
    from grm_service.profiles.profile import Scale
    from grm_service.settings import Settings


class _Measuring(TyperGroup):
    """What is no command of the group is data: `grm eval DATA` is `grm eval run DATA`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Measuring,
    help="Measure a judge on preference data: grm eval DATA --out FOLDER; grm eval compare A B.",
    no_args_is_help=True,
)


@app.command()
def run(
    data: Annotated[str, typer.Argument(help="A file, a folder of files, or OWNER/NAME[:SPLIT] of a hub.")],
    out: Annotated[Path, typer.Option(help="Folder for the report; an interrupted run resumes in it.")],
    profile: ProfileName = None,
    k: Annotated[
        str, typer.Option(help="Values of k to report; the largest is sampled, smaller ones are subsampled.")
    ] = "1,2,4,8",
    engine: Engine = None,
    url: Annotated[str | None, typer.Option(help="Measure a running service instead.")] = None,
    key: Annotated[str | None, typer.Option(help="API key for it.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Items, of every source its share.")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="Of the data (told by its columns).")
    ] = None,
    judge: Annotated[JudgeKind, typer.Option(help="grm, or a baseline on the same model.")] = "grm",
    principles: Annotated[str, typer.Option(help="self, query or fixed; MODE:SET names a set.")] = "self",
    score: Annotated[ScoreKind, typer.Option(help="What a sample puts into the vote.")] = "hard",
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="Of sampling (profile).")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="A critique may take (profile).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of orders and sampling.")] = 0,
    concurrency: Annotated[int, typer.Option(min=1, help="Items judged at once.")] = 8,
) -> None:
    """Judge DATA once at the largest k, and report accuracy, scaling, calibration, biases and cost."""
    from grm_service.evaluation.dataset import some
    from grm_service.evaluation.files import write_report
    from grm_service.evaluation.reading import read
    from grm_service.evaluation.report import measure

    found = settings(engine=engine, profile=profile)
    with failing():
        ks, (mode, set_name) = _numbers(k), principles_asked(principles)
        if judge != "grm" and (url or principles != "self" or score != "hard"):
            raise BadTask(
                f"--judge {judge} runs in this process only, and knows no --url, --principles, --score"
            )
        if judge == "logprob" and max(ks) > 2:
            say("logprob draws nothing: k = 2, two orders, is all there is")
            ks = [1, 2]
        rows = read(data, format_)
        items = rows.items if limit is None else some(rows.items, limit)
        setup = EvalSetup(
            profile=profile or "",
            engine="service",
            k=max(ks),
            score=score,
            principles=mode,
            principle_set=set_name,
            temperature=temperature,
            max_tokens=max_tokens,
            seed=seed,
            judge=judge,
        )
        if url:
            judging = _there(items, out, setup, url, key, concurrency)
        else:
            judging = _here(items, out, setup, found, concurrency)
        setup, judged, scale = asyncio.run(judging)
        report = measure(judged, setup, ks, scale, Path(data).name, rows.left_out)
        _show(write_report(report, out))
        say(f"{out}/report.md, report.json")


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Folders of runs over the same data; FOLDER@median, @majority, @meta: voted that way."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for compare.json, compare.md and a picture.")
    ] = None,
) -> None:
    """What the others get right more often than the first: paired differences, accuracy against tokens."""
    from grm_service.evaluation.files import write_comparison

    with failing():
        if len(runs) < 2:
            raise BadTask("give two runs or more, such as: grm eval compare runs/a runs/b")
        _show(write_comparison(runs, out))


@app.command()
def check(
    report: Annotated[Path, typer.Argument(help="A report.json.")],
    committed: Annotated[Path, typer.Argument(help="The report.json that it should reproduce.")],
) -> None:
    """Whether a run reproduces another one's figures within their intervals; exit 1 where it does not."""
    from grm_service.evaluation.files import read_report
    from grm_service.evaluation.markdown import checks
    from grm_service.evaluation.reproduce import check as checked

    with failing():
        found = checked(read_report(report), read_report(committed))
    _show(checks(found))
    if not all(each.held for each in found):
        raise typer.Exit(1)


Result = tuple[EvalSetup, "list[ItemResult]", "Scale | None"]


async def _here(items: list[Item], out: Path, setup: EvalSetup, found: Settings, at_once: int) -> Result:
    from grm_service.evaluation.baselines import baseline, fingerprint_of, require, scale_of
    from grm_service.evaluation.judges import in_process
    from grm_service.evaluation.run_folder import RunFolder

    service = open_service(found)
    profile, engine = service.profile, service.engine
    asked_by = fingerprint_of(profile, setup.judge)
    setup = replace(setup, profile=profile.name, engine=engine.name, fingerprint=asked_by)
    if setup.principle_set:
        named = service.catalog.principle_set(setup.principle_set)
        setup = replace(setup, principle_set_fingerprint=fingerprint(named.items()))
    with RunFolder(out, setup) as folder:
        try:
            if folder.left(items):
                say_loading(service)
                await service.start()
                require(engine, setup.judge)
            ask = in_process(service) if setup.judge == "grm" else baseline(engine, profile)
            judged = await _judge(items, folder, ask, at_once)
        finally:
            await service.close()
    return setup, judged, scale_of(profile, setup.judge)


async def _there(
    items: list[Item], out: Path, setup: EvalSetup, url: str, key: str | None, at_once: int
) -> Result:
    from grm_service.client import AsyncClient
    from grm_service.evaluation.judges import reach, remote
    from grm_service.evaluation.run_folder import RunFolder

    await reach(url)
    async with AsyncClient(url, key, concurrency=at_once) as client:
        with RunFolder(out, setup) as folder:
            judged = await _judge(items, folder, remote(client), at_once)
    # A reply does not tell its scale; where the profile is one of ours it is known.
    ours = {fingerprint(profile): profile.scale for profile in open_catalog(settings()).profiles.values()}
    told = next((item.fingerprint for item in judged if item.fingerprint), "")
    return setup, judged, ours.get(told)


async def _judge(items: list[Item], folder: RunFolder, ask: JudgeItem, at_once: int) -> list[ItemResult]:
    from grm_service.cli.terminal import bar
    from grm_service.evaluation.running import judge_all

    left = len(folder.left(items))
    if left < len(items):
        say(f"{len(items) - left} of {len(items)} items were judged before")
    with bar(err, "judging", left) as advance:
        return await judge_all(items, folder, ask, at_once, advance)


def _numbers(k: str) -> list[int]:
    try:
        found = [int(number) for number in k.split(",")]
    except ValueError:
        found = [0]
    if min(found) < 1 or max(found) > 64:
        raise BadTask(f"--k {k!r}: give numbers from 1 to 64, such as 1,2,4,8")
    return found


def _show(text: str) -> None:
    Console().print(Markdown(text))
