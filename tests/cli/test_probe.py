import json

import pytest
from typer.testing import CliRunner

from grm_service.cli import app
from grm_service.probes import runner
from grm_service.probes.cases import probes
from grm_service.types import JudgeOptions, PrincipleSpec


def run(*args, **env):
    return CliRunner().invoke(app, ["probe", "--engine", "scripted", "--k", "2", *args], env=env)


def test_probe_shows_each_result():
    result = run(COLUMNS="120")
    assert result.exit_code == 0, result.stderr
    for each in probes():
        assert each.name in result.stdout
    assert "12/12" in result.stdout
    assert "the better answer earned" in result.stdout


def test_json_matches_the_route():
    report = json.loads(run("--json").stdout)
    assert report["ran"]
    assert (report["profile"], report["alarm"], report["failed"]) == ("smollm2-judge", None, [])
    assert [each["name"] for each in report["probes"]] == [each.name for each in probes()]
    plain = next(each for each in report["probes"] if each["name"] == "plain")
    assert plain["rate"] == plain["passed"] / plain["cases"]
    assert len(plain["failures"]) == plain["cases"] - plain["passed"]


@pytest.mark.parametrize(("flags", "env"), [(["--alarm", "0.9"], {}), ([], {"GRM_PROBE_ALARM": "0.9"})])
def test_result_below_alarm_fails(flags, env):
    result = run("--json", *flags, GRM_SCRIPT="first", **env)
    assert result.exit_code == 1
    assert "error: below the alarm of 0.9: position, plain" in result.stderr
    assert json.loads(result.stdout)["alarm"] == 0.9, "the report is printed nevertheless"


@pytest.fixture
def judged_with(monkeypatch):
    """Run the command and return the options of its first task."""

    def options(*args):
        cases = []

        async def record(self, selected, on_judged=None):
            cases.extend(selected)
            return self.report

        monkeypatch.setattr(runner.ProbeRunner, "run", record)
        result = run(*args)
        assert result.exit_code == 0, result.output
        return cases[0].cases[0].tasks[0].options

    return options


def test_judge_options_reach_the_tasks(judged_with):
    flags = "--k-meta 0 --score soft --stop exact --temperature 0.7 --max-tokens 99 --timeout-s 5 --seed 3"
    assert judged_with(*flags.split(), "--principles", "fixed:code") == JudgeOptions(
        k=2, k_meta=0, seed=3, temperature=0.7, max_tokens=99, score="soft", stop="exact", timeout_s=5,
        principles=PrincipleSpec("fixed", "code"),
    )  # fmt: skip


def test_unknown_principles_are_refused():
    result = run("--principles", "best")
    assert result.exit_code == 1
    assert "--principles 'best'" in result.stderr
