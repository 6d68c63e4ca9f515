"""Runs the probes through a service, as everything else is judged, once or every so often."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from grm_service.admission import Caller
from grm_service.errors import AllUnreadable, GRMError
from grm_service.probes.cases import Probe, probes, tasks
from grm_service.probes.report import ROUTE, Report, result
from grm_service.service import Asker, Service
from grm_service.types import Task, Verdict

logger = logging.getLogger(__name__)
_ASKER = Asker(Caller("probes"), route=ROUTE, priority="eval")
# Training goes first in the line, but what has been let in holds its room: so not all at once.
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many seconds lie between two runs (None: there are none), and the share that has to pass."""

    every_s: float | None = None
    alarm: float | None = None


NEVER = Schedule()


async def probe(
    service: Service,
    asked: tuple[Probe, ...],
    alarm: float | None = None,
    on_judged: Callable[[], None] = lambda: None,
) -> Report:
    """Judges what the probes ask and keeps the report (`Service.probes`); `on_judged` is told each task.

    A verdict that cannot be read is a finding. Any other error is raised, and the last report stays.
    """
    profile = service.profile
    verdicts = await _verdicts(service, tasks(asked), on_judged)
    results = tuple(result(each, verdicts, profile.scale) for each in asked)
    report = Report(profile.name, alarm, datetime.now(UTC), results)
    service.probed(report)
    return report


async def keep_probing(service: Service, schedule: Schedule) -> None:
    """Probes the service again and again while it is ready; a run that fails is logged."""
    service.probes = replace(service.probes, alarm=schedule.alarm)
    while schedule.every_s is not None:
        if service.ready:
            await _tried(service, schedule)
        await asyncio.sleep(schedule.every_s)


async def _tried(service: Service, schedule: Schedule) -> None:
    try:
        report = await probe(service, probes(), schedule.alarm)
    except GRMError as failed:
        logger.warning(
            "the probes did not run (%s), the next time is in %g s: %s", failed.code, schedule.every_s, failed
        )
    except Exception:
        logger.exception("the probes did not run (internal), the next time is in %g s", schedule.every_s)
    else:
        if report.failed:
            logger.warning("probes below the alarm of %g: %s", schedule.alarm, ", ".join(report.failed))


async def _verdicts(
    service: Service, asked: tuple[Task, ...], on_judged: Callable[[], None]
) -> dict[Task, Verdict | AllUnreadable]:
    run, room = uuid.uuid4().hex, asyncio.Semaphore(_AT_ONCE)

    async def judged(number: int, task: Task) -> Verdict | AllUnreadable:
        # The key is new in every run: a verdict given again would tell nothing of the judge as it is now.
        asker = replace(_ASKER, key=f"{run}.{number}")
        async with room:
            try:
                return (await service.judge(task, asker=asker)).verdict
            except AllUnreadable as unreadable:
                return unreadable
            finally:
                on_judged()

    running = [asyncio.create_task(judged(i, task)) for i, task in enumerate(asked)]
    try:
        return dict(zip(asked, await asyncio.gather(*running), strict=True))
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
