"""grm eval as a person runs it."""

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time

import pytest

from grm_service.evaluation.run_folder import read_items
from tests.cli.test_cli import run
from tests.faults.test_faults import served

WORDS = ["red", "green", "blue", "one", "two", "three", "four", "five", "six", "seven"]


def rows(n, several=0):
    drawing = random.Random(1)
    return [
        {
            "id": f"{'ab'[i % 2]}:{i}",
            "source": "ab"[i % 2],
            "messages": [{"role": "user", "content": f"Question {i}?"}],
            "responses": [" ".join(drawing.sample(WORDS, 4)) for _ in range(3 if i < several else 2)],
            "preferred": i % 2,
            "meta": {"models": ["m/x", "m/y"]},
        }
        for i in range(n)
    ]


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(40, several=6)))
    return str(file)


@pytest.fixture
def trail(tmp_path):
    return {
        "GRM_AUDIT_URL": f"sqlite:///{tmp_path}/audit.db",
        "GRM_AUDIT_KEY_FILE": str(tmp_path / "audit.key"),
        "GRM_ENGINE": "scripted",
    }


@pytest.fixture
def evaluate(trail):
    def evaluate(*args, code=0, **env):
        result = run("eval", *map(str, args), env=trail | env)
        assert result.exit_code == code, result.output
        return result

    return evaluate


def report(folder):
    return json.loads((folder / "report.json").read_text())


def width(png):
    return struct.unpack(">I", png.read_bytes()[16:20])[0]


def test_a_run_writes_its_report_with_pictures_of_800_pixels(evaluate, data, tmp_path):
    out = tmp_path / "out"
    said = evaluate(data, "--k", "1,2,4,8", "--out", out)
    assert "40 items, k = 8" in said.stdout
    found = report(out)
    assert found["items"] == found["overall"]["n"] == 40
    assert [step["k"] for step in found["scaling"]] == [1, 2, 4, 8]
    assert set(found["by_source"]) == {"a", "b"}
    assert [each["vote"] for each in found["votes"]] == ["mean", "median", "majority"]
    assert found["reading"]["readable"] == 1
    assert [each["author"] for each in found["authors"]] == ["m/x", "m/y"]
    text = (out / "report.md").read_text()
    pictures = sorted(path.name for path in out.glob("*.png"))
    assert pictures == ["reliability.png", "risk-coverage.png", "scaling.png", "sources.png"]
    for name in pictures:
        assert width(out / name) == 800
        assert f"![{name}]({name})" in text
    for item in read_items(out):
        assert item.verdict.startswith("vd_")
    assert "Question" not in (out / "items.jsonl").read_text(), "texts are in the trail, not here"


def test_a_finished_run_is_reported_again_without_judging(evaluate, data, tmp_path):
    first = evaluate(data, "--out", tmp_path / "out")
    before = (tmp_path / "out" / "report.json").read_bytes()
    again = evaluate(data, "--out", tmp_path / "out")
    assert "loading" in first.stderr
    assert "loading" not in again.stderr
    assert "40 of 40 items were judged before" in again.stderr
    assert (tmp_path / "out" / "report.json").read_bytes() == before


def test_a_run_that_was_killed_goes_on_where_it_was(trail, tmp_path):
    data, out = tmp_path / "data.jsonl", tmp_path / "out"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(300)))
    command = [
        sys.executable,
        "-m",
        "grm_service",
        "eval",
        str(data),
        "--out",
        str(out),
        "--concurrency",
        "1",
    ]
    env = {**os.environ, **trail}
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (out / "items.jsonl").exists() or (out / "items.jsonl").read_bytes().count(b"\n") < 3:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    kept = read_items(out)
    assert 3 <= len(kept) < 300
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(kept)} of 300 items were judged before" in done.stderr
    after = read_items(out)
    assert after[: len(kept)] == kept
    assert sorted(item.id for item in after) == sorted(row["id"] for row in rows(300))


def test_another_setup_does_not_go_on_in_the_same_folder(evaluate, data, tmp_path):
    evaluate(data, "--out", tmp_path / "out", "--k", "2")
    said = evaluate(data, "--out", tmp_path / "out", "--k", "4", code=1)
    assert "holds a run with k 2, now 4: take a new folder" in said.stderr


@pytest.mark.parametrize("judge", ["pairwise", "swapped", "absolute", "logprob"])
def test_a_baseline_is_reported_as_the_judge_is(evaluate, data, tmp_path, judge):
    said = evaluate(data, "--judge", judge, "--k", "1,2,4", "--out", tmp_path / "out")
    assert f"the baseline {judge}" in said.stdout
    found = report(tmp_path / "out")
    assert found["setup"]["judge"] == judge
    assert found["failed"] == {}
    assert [step["k"] for step in found["scaling"]] == ([1, 2] if judge == "logprob" else [1, 2, 4])
    assert found["cost"]["completion_tokens"] > 0
    assert (found["position"] is None) == (judge == "absolute")


def test_the_scripted_judge_agrees_with_itself_asked_otherwise(evaluate, data, tmp_path):
    """It scores by content, the same whatever is asked: so all that is compared here is the harness."""
    for judge in ("grm", "absolute", "swapped"):
        evaluate(data, "--judge", judge, "--k", "8", "--out", tmp_path / judge)
    found = {judge: report(tmp_path / judge)["overall"]["strict"] for judge in ("grm", "absolute", "swapped")}
    assert found["grm"] == found["absolute"]
    assert found["swapped"] == pytest.approx(found["grm"], abs=0.11)


def test_runs_and_votes_are_compared(evaluate, data, tmp_path):
    for name, *flags in (("one",), ("seeded", "--seed", "1"), ("plain", "--judge", "pairwise")):
        evaluate(data, "--out", tmp_path / name, "--k", "4", *flags)
    two = evaluate("compare", tmp_path / "one", tmp_path / "seeded")
    assert "seeded against one" in two.stdout
    assert "Items that flipped" in two.stdout
    runs = [tmp_path / "one", f"{tmp_path}/one@majority", tmp_path / "plain"]
    evaluate("compare", *runs, "--out", tmp_path / "c")
    found = json.loads((tmp_path / "c" / "compare.json").read_text())
    assert [curve["run"] for curve in found["curves"]] == ["one", "one@majority", "plain"]
    assert [each["b"] for each in found["against_first"]] == ["one@majority", "plain"]
    assert found["against_first"][1]["settings"]["judge"] == ["grm", "pairwise"]
    assert width(tmp_path / "c" / "accuracy-against-tokens.png") == 800
    assert "accuracy-against-tokens.png" in (tmp_path / "c" / "compare.md").read_text()


def test_a_run_is_checked_against_figures_that_were_committed(evaluate, data, tmp_path):
    evaluate(data, "--out", tmp_path / "a", "--k", "4")
    evaluate(data, "--out", tmp_path / "b", "--k", "4", GRM_SCRIPT="first")
    figures = tmp_path / "a" / "report.json"
    assert "figures lie within" in evaluate("check", figures, figures).stdout
    moved = json.loads(figures.read_text())
    moved["overall"]["strict_interval"] = {"low": 0.99, "high": 1.0}
    (tmp_path / "moved.json").write_text(json.dumps(moved))
    assert "1 of" in evaluate("check", figures, tmp_path / "moved.json", code=1).stdout
    said = evaluate("check", figures, tmp_path / "b" / "report.json", code=1)
    assert "different models" in said.stderr


def test_a_running_service_is_measured_as_the_judge_in_process_is(evaluate, data, tmp_path):
    with served() as (url, _):
        evaluate(data, "--url", url, "--out", tmp_path / "there", "--k", "4")
    evaluate(data, "--out", tmp_path / "here", "--k", "4")
    there, here = report(tmp_path / "there"), report(tmp_path / "here")
    assert there["setup"]["engine"] == "service"
    for part in ("overall", "by_source", "scaling", "votes", "position", "calibration"):
        assert there[part] == here[part], part
    assert there["fingerprint"] == here["fingerprint"]
    assert there["cost"]["stopping"] == here["cost"]["stopping"]


def test_what_nobody_could_read_is_counted_wrong_and_told_apart(evaluate, data, tmp_path):
    evaluate(data, "--out", tmp_path / "out", "--k", "2", GRM_SCRIPT="unreadable")
    found = report(tmp_path / "out")
    assert found["failed"] == {"all_unreadable": 40}
    assert (found["overall"]["strict"], found["reading"]["readable"]) == (0, 0)
    assert found["calibration"] is None
    assert "40 items have no vote (all_unreadable)" in (tmp_path / "out" / "report.md").read_text()


def test_a_run_is_not_gone_on_with_after_its_principles_have_changed(evaluate, data, tmp_path):
    def principles(text):
        (tmp_path / "mine.yaml").write_text(
            f"{{name: mine, description: x, principles: [{{text: {text}, weight: 1.0}}]}}"
        )

    run = (data, "--out", tmp_path / "out", "--k", "2", "--principles", "fixed:mine")
    principles("It is right.")
    evaluate(*run, GRM_PRINCIPLES_DIR=str(tmp_path))
    principles("It is kind.")
    said = evaluate(*run, code=1, GRM_PRINCIPLES_DIR=str(tmp_path)).stderr
    assert "holds a run with principle_set_fingerprint" in said


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl cannot be read"),
        (["DATA", "--k", "0"], "--k '0': give numbers from 1 to 64"),
        (["DATA", "--k", "many"], "--k 'many'"),
        (["DATA", "--principles", "none"], "--principles 'none'"),
        (["DATA", "--format", "csv"], "unknown format 'csv'"),
        (["DATA", "--judge", "pairwise", "--score", "soft"], "--judge pairwise"),
        (["DATA", "--judge", "swapped", "--url", "http://127.0.0.1:9"], "in this process only"),
        (["DATA", "--profile", "nope"], "unknown profile 'nope'"),
        (["DATA", "--url", "localhost:9"], "is no address"),
        (["DATA", "--url", "http://127.0.0.1:9"], "no service answers at --url http://127.0.0.1:9"),
    ],
)
def test_what_cannot_be_measured_is_one_clear_line(evaluate, data, tmp_path, args, says):
    said = evaluate(*(data if each == "DATA" else each for each in args), "--out", tmp_path / "out", code=1)
    assert says in said.stderr
    assert sum(line.startswith("error:") for line in said.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["compare", "A"], "give two runs or more"),
        (["compare", "A", "B"], "holds no run of grm eval"),
        (["compare", "A", "A@loudest"], "unknown vote 'loudest'; known: mean, median, majority"),
        (["check", "A", "A"], "is no report of grm eval"),
    ],
)
def test_what_cannot_be_compared_is_one_clear_line(evaluate, data, tmp_path, args, says):
    evaluate(data, "--out", tmp_path / "A", "--k", "2")
    said = evaluate(*(args[:1] + [f"{tmp_path}/{each}" for each in args[1:]]), code=1)
    assert says in said.stderr
