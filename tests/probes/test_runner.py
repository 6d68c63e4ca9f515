"""Probe runs through the service, once and on a schedule."""

import asyncio
import logging

import pytest

from grm_service.engines.scripted import ScriptedEngine
from grm_service.errors import EngineUnreachable
from grm_service.probes.cases import probes, tasks
from grm_service.probes.runner import ProbeRunner, Schedule
from grm_service.types import JudgeOptions, Message, Task
from tests.probes import judges
from tests.waiting import settle, until

pytestmark = pytest.mark.anyio
OFTEN = Schedule(every_s=0.01, alarm=0.8)


class Gated(ScriptedEngine):
    """An engine that answers once its gate is open, and fails while `failing` is set."""

    def __init__(self, judge, is_open=True):
        super().__init__(judges.script(judge))
        self.gate, self.failing = asyncio.Event(), False
        if is_open:
            self.gate.set()

    async def complete(self, prompt, params):
        self.prompts.append(prompt)
        await self.gate.wait()
        if self.failing:
            raise EngineUnreachable("the cable is out")
        return await super().complete(prompt, params)


async def test_every_run_judges_again(serving):
    async with serving(judges.script(judges.sound)) as service:
        runner = ProbeRunner(service)
        await runner.run(probes(JudgeOptions(k=1)))
        once = len(service.engine.prompts)
        await runner.run(probes(JudgeOptions(k=1)))
    assert once == len(tasks(probes(JudgeOptions(k=1))))
    assert len(service.engine.prompts) == 2 * once


async def test_training_precedes_queued_probes(serving):
    engine = Gated(judges.sound, is_open=False)
    async with serving(engine, samples=1) as service:
        probing = asyncio.create_task(ProbeRunner(service).run(probes(JudgeOptions(k=1))))
        await until(lambda: service.queue.waiting == 7)
        judging = service.judge(
            Task((Message("user", "Is it raining?"),), ("Yes.", "No."), options=JudgeOptions(k=1))
        )
        training = asyncio.create_task(judging)
        await until(lambda: service.queue.waiting == 8)
        engine.gate.set()
        await asyncio.gather(probing, training)
    place = next(i for i, prompt in enumerate(engine.prompts) if "raining?" in prompt.messages[-1].content)
    assert place == 2, "only the running probe goes before it"


async def test_probe_rewards_stay_out_of_metrics(serving):
    async with serving(judges.script(judges.alike)) as service:
        await ProbeRunner(service).run(probes(JudgeOptions(k=1)))
        text = service.metrics.text().decode()
    assert 'grm_samples_total{outcome="ok"}' in text
    assert "grm_rewards_count{" not in text
    assert "grm_zero_spread_total{" not in text


async def test_failed_run_leaves_last_report(serving, caplog):
    engine = Gated(judges.sound)
    async with serving(engine) as service:
        runner = ProbeRunner(service, OFTEN)
        probing = asyncio.create_task(runner.keep_running())
        await until(lambda: runner.report.ran)
        engine.failing = True
        with caplog.at_level(logging.WARNING):
            await until(lambda: "engine_failed" in caplog.text)
        last = runner.report
        assert "the probes did not run (engine_failed), next run in 0.01 s" in caplog.text
        engine.failing = False
        await until(lambda: runner.report is not last)
        probing.cancel()
    assert runner.report.failed == ()


async def test_schedule_survives_a_bug(serving, caplog, monkeypatch):
    async with serving(judges.script(judges.sound)) as service:
        judge = service.judge

        async def broken(*args, **kwargs):
            raise RuntimeError("a bug")

        monkeypatch.setattr(service, "judge", broken)
        runner = ProbeRunner(service, OFTEN)
        probing = asyncio.create_task(runner.keep_running())
        await until(lambda: "the probes did not run (internal)" in caplog.text)
        monkeypatch.setattr(service, "judge", judge)
        await until(lambda: runner.report.ran)
        probing.cancel()


async def test_draining_service_is_not_probed(serving):
    async with serving(judges.script(judges.sound)) as service:
        service.drain()
        runner = ProbeRunner(service, OFTEN)
        probing = asyncio.create_task(runner.keep_running())
        await settle()
        assert not service.engine.prompts
        assert not probing.done()
        probing.cancel()


async def test_no_schedule_no_probes(serving):
    async with serving(judges.script(judges.sound)) as service:
        runner = ProbeRunner(service, Schedule(alarm=0.8))
        await runner.keep_running()
        assert runner.report.alarm == 0.8
        assert runner.report.ran is None
        assert not service.engine.prompts
