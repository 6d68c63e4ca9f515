"""The entry points, on the scripted engine."""

import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from grm_service.errors import BadTask
from grm_service.evaluation import compare, evaluate, reproduce
from grm_service.evaluation.files import read_report, read_runs
from grm_service.evaluation.run_folder import EvalSetup, read_setup
from grm_service.types import JudgeOptions, Principle, PrincipleSpec

ROOT = Path(__file__).parents[2]
NEW_FIELDS = ("k_meta", "stop", "timeout_s")


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRM_ENGINE", "scripted")
    monkeypatch.setenv("GRM_AUDIT_URL", f"sqlite:///{tmp_path}/audit.db")
    monkeypatch.setenv("GRM_AUDIT_KEY_FILE", str(tmp_path / "audit.key"))
    rows = [{"prompt": f"Question {i}?", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(20)]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_importing_the_package_is_light():
    heavy = {"pydantic", "httpx", "grm_service.factory"}
    code = f"import sys, grm_service.evaluation; assert not {heavy} & {{*sys.modules}}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_evaluate_resumes_with_the_same_arguments(tmp_path):
    events = []

    def run(limit):
        return evaluate(
            "data.jsonl",
            tmp_path / "out",
            limit=limit,
            options=JudgeOptions(seed=5),
            ks=[1, 4],
            on_load=lambda service: events.append(service.engine.name),
            on_start=lambda done, total: events.append((done, total)),
            on_judged=lambda result: events.append(result.error),
        )

    first, second = run(5), run(6)
    assert events == ["scripted", (0, 5), *[None] * 5, "scripted", (5, 6), None]
    assert (first.items, second.items, second.setup.k, second.setup.seed) == (5, 6, 4, 5)
    assert [step.k for step in second.scaling] == [1, 4]
    assert read_report(tmp_path / "out" / "report.json") == second


def test_report_names_rows_and_files_without_items(tmp_path):
    Path("folder").mkdir()
    same = {"prompt": "Q", "chosen": "yes", "rejected": "yes"}
    Path("folder/data.jsonl").write_text(Path("data.jsonl").read_text() + json.dumps(same))
    Path("folder/notes.txt").touch()
    report = evaluate("folder", tmp_path / "out", ks=[2], limit=2)
    assert (report.left_out, report.unread) == ({"the responses are the same": 1}, ("notes.txt",))
    assert read_report(tmp_path / "out" / "report.json") == report
    text = (tmp_path / "out" / "report.md").read_text()
    assert "1 rows left out: the responses are the same. Files not read: `notes.txt`." in text


def test_bad_row_is_refused_before_judging(tmp_path):
    with Path("data.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "Q", "chosen": "yes", "rejected": None}))
    with pytest.raises(BadTask, match=r"data\.jsonl, line 21 cannot be read as pair: rejected is null"):
        evaluate("data.jsonl", tmp_path / "out", ks=[2], on_judged=lambda result: pytest.fail("judged"))
    assert not (tmp_path / "out").exists()


def test_ks_above_samples_are_left_out(tmp_path):
    report = evaluate("data.jsonl", tmp_path / "out", options=JudgeOptions(k=3))
    assert (report.setup.k, [step.k for step in report.scaling]) == (3, [1, 2, 3])


def test_early_stopping_generates_fewer_samples(tmp_path):
    full = evaluate("data.jsonl", tmp_path / "full")
    early = evaluate("data.jsonl", tmp_path / "early", options=JudgeOptions(stop="exact", k_meta=0))
    assert (early.setup.stop, early.setup.k_meta) == ("exact", 0)
    assert early.reading.taken < full.reading.taken
    assert early.overall == full.overall, "the exact rule changes no winner"
    assert [step.k for step in early.scaling] == [8]
    assert compare([tmp_path / "full", tmp_path / "early"]).against_first[0].flipped == ()
    with pytest.raises(BadTask, match="judge without --stop"):
        read_runs([f"{tmp_path}/early@majority"])


def test_folders_without_the_new_options_resume(tmp_path):
    evaluate("data.jsonl", tmp_path / "out", limit=3)
    file = tmp_path / "out" / "setup.json"
    before = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in before.items() if name not in NEW_FIELDS}))
    assert asdict(read_setup(tmp_path / "out")) == before
    started = []
    evaluate("data.jsonl", tmp_path / "out", limit=3, on_load=started.append)
    assert started == []
    with pytest.raises(BadTask, match="stop 'none', now 'exact'"):
        evaluate("data.jsonl", tmp_path / "out", options=JudgeOptions(stop="exact"))


def test_committed_report_can_be_read():
    committed = ROOT / "evals" / "qwen-judge.json"
    assert all(check.reproduced for check in reproduce(committed, committed))
    setup = read_report(committed).setup
    defaults = EvalSetup(setup.profile, setup.engine, setup.k)
    assert all(getattr(setup, name) == getattr(defaults, name) for name in NEW_FIELDS)


@pytest.mark.parametrize(
    "option",
    [
        {"score": "soft"},
        {"k_meta": 0},
        {"stop": "exact"},
        {"timeout_s": 9.0},
        {"principles": PrincipleSpec("query")},
    ],
    ids=lambda option: next(iter(option)),
)
def test_baselines_refuse_options_of_the_judge(tmp_path, option):
    with pytest.raises(BadTask, match="--judge swapped runs in this process only"):
        evaluate("data.jsonl", tmp_path / "out", judge="swapped", options=JudgeOptions(**option))
    assert not (tmp_path / "out").exists()


def test_unusable_arguments_are_rejected(tmp_path):
    with pytest.raises(BadTask, match="k must be from 1 to 64"):
        evaluate("data.jsonl", tmp_path / "out", ks=[0, 4])
    inline = PrincipleSpec("fixed", items=(Principle("It is right."),))
    with pytest.raises(BadTask, match="principle set"):
        evaluate("data.jsonl", tmp_path / "out", options=JudgeOptions(principles=inline))
    with pytest.raises(BadTask, match="two runs or more"):
        compare([tmp_path / "out"])


def test_the_documented_python_runs():
    (code,) = re.findall(r"```py\n(.*?)```", (ROOT / "docs" / "evaluation.md").read_text(), re.DOTALL)
    names = {}
    exec(compile(code, "docs/evaluation.md", "exec"), names)
    assert names["report"].items == 20
    assert Path("runs/exact/report.md").exists()
