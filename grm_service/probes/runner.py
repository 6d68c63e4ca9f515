"""Runs of the probes through a service, once or on a schedule."""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Gauge

from grm_service.callers import Caller, Requester
from grm_service.errors import AllUnreadable, GRMError
from grm_service.probes.cases import Probe, probes, tasks
from grm_service.probes.report import ROUTE, ProbeReport, probe_result
from grm_service.serving.service import Service
from grm_service.types import JudgeOptions, Task, Verdict

logger = logging.getLogger(__name__)
_REQUESTER = Requester(Caller("probes"), route=ROUTE, priority="eval", synthetic=True)
# Queued training requests go first, but admitted ones are not preempted: admit only a few probes at a time.
_CONCURRENCY = 8


@dataclass(frozen=True, slots=True)
class Schedule:
    """Seconds between runs (None: no runs), the minimum share of passed cases (0..1), and judge options."""

    every_s: float | None = None
    alarm: float | None = None
    options: JudgeOptions = JudgeOptions()


NEVER = Schedule()


class ProbeRunner:
    """A runner of the probes on one service, with the report, gauges and alarm of the last run."""

    def __init__(self, service: Service, schedule: Schedule = NEVER) -> None:
        self._service, self._schedule = service, schedule
        self._gauges = _Gauges(service.metrics.registry)
        self.report = ProbeReport(service.profile.name, schedule.alarm)

    async def run(
        self, cases: tuple[Probe, ...], on_judged: Callable[[], None] = lambda: None
    ) -> ProbeReport:
        """Judge the cases and return the new report; `on_judged` is called after each task.

        Unreadable verdicts are results. Any other error is raised and leaves the last report in place.
        """
        verdicts = await self._verdicts(tasks(cases), on_judged)
        results = tuple(probe_result(probe, verdicts, self._service.profile.scale) for probe in cases)
        self.report = replace(self.report, ran=datetime.now(UTC), probes=results)
        self._gauges.show(self.report)
        self._service.alarms = ("probes_failed",) if self.report.failed else ()
        return self.report

    async def keep_running(self) -> None:
        """Run all probes on the schedule while the service is ready; log failed runs."""
        while self._schedule.every_s is not None:
            if self._service.ready:
                await self._try()
            await asyncio.sleep(self._schedule.every_s)

    async def _try(self) -> None:
        every_s = self._schedule.every_s
        try:
            report = await self.run(probes(self._schedule.options))
        except GRMError as error:
            logger.warning("the probes did not run (%s), next run in %g s: %s", error.code, every_s, error)
        except Exception:
            logger.exception("the probes did not run (internal), next run in %g s", every_s)
        else:
            if report.failed:
                logger.warning("probes below the alarm of %g: %s", report.alarm, ", ".join(report.failed))

    async def _verdicts(
        self, probe_tasks: tuple[Task, ...], on_judged: Callable[[], None]
    ) -> dict[Task, Verdict | AllUnreadable]:
        run, semaphore = uuid.uuid4().hex, asyncio.Semaphore(_CONCURRENCY)

        async def judge(number: int, task: Task) -> Verdict | AllUnreadable:
            # A new key for each run, since a cached verdict would not test the judge as it is now.
            requester = replace(_REQUESTER, key=f"{run}.{number}")
            async with semaphore:
                try:
                    return (await self._service.judge(task, requester=requester)).verdict
                except AllUnreadable as unreadable:
                    return unreadable
                finally:
                    on_judged()

        running = [asyncio.create_task(judge(i, task)) for i, task in enumerate(probe_tasks)]
        try:
            return dict(zip(probe_tasks, await asyncio.gather(*running), strict=True))
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)


class _Gauges:
    """The last report as Prometheus gauges."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rate = Gauge(
            "grm_probe_rate",
            "Share of readable cases that passed; NaN if no case was readable.",
            ["probe"],
            registry=registry,
        )
        self._unreadable = Gauge("grm_probe_unreadable", "Unreadable cases.", ["probe"], registry=registry)
        self._ran = Gauge(
            "grm_probes_ran_timestamp_seconds",
            "Time of the last probe run; 0 before the first.",
            registry=registry,
        )

    def show(self, report: ProbeReport) -> None:
        """Set the gauges to the report of a run."""
        for probe in report.probes:
            self._rate.labels(probe.name).set(math.nan if probe.rate is None else probe.rate)
            self._unreadable.labels(probe.name).set(probe.unreadable)
        if report.ran is not None:
            self._ran.set(report.ran.timestamp())
