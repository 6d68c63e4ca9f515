"""The probes run through the service as everything else does, behind it, and by a schedule."""

import asyncio
import json
import logging

import pytest
from typer.testing import CliRunner

from grm_service.cli import app
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
    """Answers once its gate is open; fails while told to."""

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


async def test_every_run_judges_anew(serving):
    async with serving(judges.script(judges.sound)) as service:
        runner = ProbeRunner(service)
        await runner.run(probes(k=1))
        once = len(service.engine.prompts)
        await runner.run(probes(k=1))
    assert once == len(tasks(probes(k=1)))
    assert len(service.engine.prompts) == 2 * once


async def test_training_goes_before_probes_that_wait(serving):
    engine = Gated(judges.sound, is_open=False)
    async with serving(engine, samples=1) as service:
        probing = asyncio.create_task(ProbeRunner(service).run(probes(k=1)))
        await until(lambda: service.queue.waiting == 7)
        asked = service.judge(
            Task((Message("user", "Is it raining?"),), ("Yes.", "No."), options=JudgeOptions(k=1))
        )
        training = asyncio.create_task(asked)
        await until(lambda: service.queue.waiting == 8)
        engine.gate.set()
        await asyncio.gather(probing, training)
    place = next(i for i, prompt in enumerate(engine.prompts) if "raining?" in prompt.messages[-1].content)
    assert place == 2, "only what was under way goes before it"


async def test_what_probes_earn_is_kept_out_of_what_the_service_is_asked(serving):
    async with serving(judges.script(judges.alike)) as service:
        await ProbeRunner(service).run(probes(k=1))
        text = service.metrics.text().decode()
    assert 'grm_samples_total{outcome="ok"}' in text
    assert "grm_rewards_count{" not in text
    assert "grm_zero_spread_total{" not in text


async def test_a_run_that_fails_keeps_the_last_report_and_the_next_one_comes(serving, caplog):
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


async def test_a_bug_in_a_run_does_not_end_the_schedule(serving, caplog, monkeypatch):
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


async def test_a_draining_service_is_not_probed(serving):
    async with serving(judges.script(judges.sound)) as service:
        service.drain()
        runner = ProbeRunner(service, OFTEN)
        probing = asyncio.create_task(runner.keep_running())
        await settle()
        assert not service.engine.prompts
        assert not probing.done()
        probing.cancel()


async def test_a_service_without_a_schedule_is_not_probed_and_knows_its_alarm(serving):
    async with serving(judges.script(judges.sound)) as service:
        runner = ProbeRunner(service, Schedule(alarm=0.8))
        await runner.keep_running()
        assert runner.report.alarm == 0.8
        assert runner.report.ran is None
        assert not service.engine.prompts


def run(*args, **env):
    return CliRunner().invoke(app, ["probe", "--engine", "scripted", "--k", "2", *args], env=env)


def test_grm_probe_shows_each_probe_with_its_figure():
    result = run(COLUMNS="120")
    assert result.exit_code == 0, result.stderr
    for each in probes():
        assert each.name in result.stdout
    assert "12/12" in result.stdout
    assert "the better answer earned" in result.stdout


def test_grm_probe_gives_machines_what_the_route_gives():
    found = json.loads(run("--json").stdout)
    assert found["ran"]
    assert (found["profile"], found["alarm"], found["failed"]) == ("smollm2-judge", None, [])
    assert [each["name"] for each in found["probes"]] == [each.name for each in probes()]
    plain = next(each for each in found["probes"] if each["name"] == "plain")
    assert plain["rate"] == plain["passed"] / plain["cases"]
    assert len(plain["failures"]) == plain["cases"] - plain["passed"]


@pytest.mark.parametrize(("flags", "env"), [(["--alarm", "0.9"], {}), ([], {"GRM_PROBE_ALARM": "0.9"})])
def test_grm_probe_exits_with_1_where_a_probe_is_below_the_alarm(flags, env):
    result = run("--json", *flags, GRM_SCRIPT="first", **env)
    assert result.exit_code == 1
    assert "error: below the alarm of 0.9: position, plain" in result.stderr
    assert json.loads(result.stdout)["alarm"] == 0.9, "what was found is printed all the same"
