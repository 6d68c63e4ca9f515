"""grm probe."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from grm_service.cli.console import Engine, ProfileName, err, fail, failing, say_loading, settings
from grm_service.errors import GRMError
from grm_service.factory import open_service


def probe(
    engine: Engine = None,
    profile: ProfileName = None,
    k: Annotated[int | None, typer.Option(min=1, max=64, help="Samples a task (the profile's k).")] = None,
    alarm: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="Exit with 1 where less of a probe's cases passed.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what GET /v1/probes gives.")] = False,
) -> None:
    """Probe the judge for biases and known attacks, with texts that ship with the package."""
    from grm_service.api.probes import ProbesReply
    from grm_service.cli.terminal import bar, show_probes
    from grm_service.probes.cases import probes, tasks
    from grm_service.probes.report import ProbeReport
    from grm_service.probes.runner import ProbeRunner, Schedule

    found = settings(engine=engine, profile=profile, probe_alarm=alarm)
    asked = probes(k)

    async def run() -> ProbeReport:
        service = open_service(found)
        say_loading(service)
        await service.start()
        try:
            with bar(err, "judging", len(tasks(asked))) as advance:
                return await ProbeRunner(service, Schedule(alarm=found.probe_alarm)).run(asked, advance)
        finally:
            await service.close()

    with failing():
        report = asyncio.run(run())
    if as_json:
        print(ProbesReply.of(report).model_dump_json(indent=2))  # noqa: T201
    else:
        show_probes(Console(), report)
    if report.failed:
        fail(GRMError(f"below the alarm of {report.alarm:g}: {', '.join(report.failed)}"))
