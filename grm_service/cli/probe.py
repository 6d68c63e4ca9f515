"""grm probe: test the judge for biases and known attacks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from grm_service.cli.console import (
    Engine,
    ProfileName,
    SafeConsole,
    err,
    exit_on_error,
    fail,
    put_json,
    say_loading,
    settings,
)
from grm_service.cli.judge_options import Given, judge_options, to_options
from grm_service.errors import GRMError
from grm_service.factory import open_service

if TYPE_CHECKING:
    from grm_service.probes.cases import Probe
    from grm_service.probes.report import ProbeReport
    from grm_service.settings import Settings


@judge_options()
def probe(
    given: Given,
    engine: Engine = None,
    profile: ProfileName = None,
    alarm: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, help="Exit with 1 if a smaller share of a probe's cases passes."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON of GET /v1/probes.")] = False,
) -> None:
    """Probe the judge for biases and known attacks, with texts that ship with the package."""
    from grm_service.api.probes import ProbesReply
    from grm_service.cli.terminal import show_probes
    from grm_service.probes.cases import probes

    config = settings(engine=engine, profile=profile, probe_alarm=alarm)
    with exit_on_error():
        report = asyncio.run(_run(config, probes(to_options(given))))
    if as_json:
        put_json(ProbesReply.of(report).model_dump_json(indent=2))
    else:
        show_probes(SafeConsole(), report)
    if report.failed:
        fail(GRMError(f"below the alarm of {report.alarm:g}: {', '.join(report.failed)}"))


async def _run(config: Settings, cases: tuple[Probe, ...]) -> ProbeReport:
    from grm_service.cli.terminal import bar
    from grm_service.probes.cases import tasks
    from grm_service.probes.runner import ProbeRunner, Schedule

    service = open_service(config)
    say_loading(service)
    await service.start()
    try:
        with bar(err, "judging", len(tasks(cases))) as advance:
            return await ProbeRunner(service, Schedule(alarm=config.probe_alarm)).run(cases, advance)
    finally:
        await service.close()
