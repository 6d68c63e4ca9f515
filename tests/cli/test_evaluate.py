"""The commands of grm eval."""

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
    rng = random.Random(1)
    return [
        {
            "id": f"{'ab'[i % 2]}:{i}",
            "source": "ab"[i % 2],
            "messages": [{"role": "user", "content": f"Question {i}?"}],
            "responses": [" ".join(rng.sample(WORDS, 4)) for _ in range(3 if i < several else 2)],
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


def test_run_writes_report_and_plots(evaluate, data, tmp_path):
    out = tmp_path / "out"
    output = evaluate(data, "--k", "1,2,4,8", "--out", out)
    assert "40 items, k = 8" in output.stdout
    figures = report(out)
    assert figures["items"] == figures["overall"]["n"] == 40
    assert [step["k"] for step in figures["scaling"]] == [1, 2, 4, 8]
    assert set(figures["by_source"]) == {"a", "b"}
    assert [each["vote"] for each in figures["votes"]] == ["mean", "median", "majority"]
    assert figures["reading"]["readable"] == 1
    assert [each["author"] for each in figures["authors"]] == ["m/x", "m/y"]
    text = (out / "report.md").read_text()
    pictures = sorted(path.name for path in out.glob("*.png"))
    assert pictures == ["reliability.png", "risk-coverage.png", "scaling.png", "sources.png"]
    for name in pictures:
        assert width(out / name) == 800
        assert f"![{name}]({name})" in text
    for item in read_items(out):
        assert item.verdict.startswith("vd_")
    assert "Question" not in (out / "items.jsonl").read_text(), "texts are in the trail, not here"


def test_finished_run_is_not_judged_again(evaluate, data, tmp_path):
    first = evaluate(data, "--out", tmp_path / "out")
    before = (tmp_path / "out" / "report.json").read_bytes()
    again = evaluate(data, "--out", tmp_path / "out")
    assert "loading" in first.stderr
    assert "loading" not in again.stderr
    assert "40 of 40 items were judged before" in again.stderr
    assert (tmp_path / "out" / "report.json").read_bytes() == before


def test_killed_run_resumes(trail, tmp_path):
    data, out = tmp_path / "data.jsonl", tmp_path / "out"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(100)))
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
    stored = read_items(out)
    assert 3 <= len(stored) < 100
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(stored)} of 100 items were judged before" in done.stderr
    after = read_items(out)
    assert after[: len(stored)] == stored
    assert sorted(item.id for item in after) == sorted(row["id"] for row in rows(100))


def test_other_setup_needs_other_folder(evaluate, data, tmp_path):
    evaluate(data, "--out", tmp_path / "out", "--k", "2")
    output = evaluate(data, "--out", tmp_path / "out", "--k", "4", code=1)
    assert "holds a run with k 2, now 4: use a new folder" in output.stderr


@pytest.mark.parametrize("judge", ["pairwise", "swapped", "absolute", "logprob"])
def test_baseline_report(evaluate, data, tmp_path, judge):
    output = evaluate(data, "--judge", judge, "--k", "1,2,4", "--out", tmp_path / "out")
    assert f"the baseline {judge}" in output.stdout
    figures = report(tmp_path / "out")
    assert figures["setup"]["judge"] == judge
    assert figures["failed"] == {}
    assert [step["k"] for step in figures["scaling"]] == ([1, 2] if judge == "logprob" else [1, 2, 4])
    assert figures["cost"]["completion_tokens"] > 0
    assert (figures["position"] is None) == (judge == "absolute")


def test_baselines_agree_on_scripted_engine(evaluate, data, tmp_path):
    """The engine scores by content with any prompt, so this compares only the harness."""
    strict = {}
    for judge in ("grm", "absolute", "swapped"):
        evaluate(data, "--judge", judge, "--k", "8", "--out", tmp_path / judge)
        strict[judge] = report(tmp_path / judge)["overall"]["strict"]
    assert strict["grm"] == strict["absolute"]
    assert strict["swapped"] == pytest.approx(strict["grm"], abs=0.11)


def test_compare_runs_and_votes(evaluate, data, tmp_path):
    for name, *flags in (("one",), ("seeded", "--seed", "1"), ("plain", "--judge", "pairwise")):
        evaluate(data, "--out", tmp_path / name, "--k", "4", *flags)
    two = evaluate("compare", tmp_path / "one", tmp_path / "seeded")
    assert "seeded against one" in two.stdout
    assert "Items that flipped" in two.stdout
    runs = [tmp_path / "one", f"{tmp_path}/one@majority", tmp_path / "plain"]
    evaluate("compare", *runs, "--out", tmp_path / "c")
    figures = json.loads((tmp_path / "c" / "compare.json").read_text())
    assert [curve["run"] for curve in figures["curves"]] == ["one", "one@majority", "plain"]
    assert [each["b"] for each in figures["against_first"]] == ["one@majority", "plain"]
    assert figures["against_first"][1]["settings"]["judge"] == ["grm", "pairwise"]
    assert width(tmp_path / "c" / "accuracy-against-tokens.png") == 800
    assert "accuracy-against-tokens.png" in (tmp_path / "c" / "compare.md").read_text()


def test_check_against_committed_report(evaluate, data, tmp_path):
    evaluate(data, "--out", tmp_path / "a", "--k", "4")
    evaluate(data, "--out", tmp_path / "b", "--k", "4", GRM_SCRIPT="first")
    figures = tmp_path / "a" / "report.json"
    assert "figures lie within" in evaluate("check", figures, figures).stdout
    moved = json.loads(figures.read_text())
    moved["overall"]["strict_interval"] = {"low": 0.99, "high": 1.0}
    (tmp_path / "moved.json").write_text(json.dumps(moved))
    assert "1 of" in evaluate("check", figures, tmp_path / "moved.json", code=1).stdout
    output = evaluate("check", figures, tmp_path / "b" / "report.json", code=1)
    assert "different models" in output.stderr


@pytest.fixture(scope="module")
def url():
    with served() as (address, _):
        yield address


def test_service_and_process_agree(evaluate, data, tmp_path, url):
    evaluate(data, "--url", url, "--out", tmp_path / "there", "--k", "4")
    evaluate(data, "--out", tmp_path / "here", "--k", "4")
    there, here = report(tmp_path / "there"), report(tmp_path / "here")
    assert there["setup"]["engine"] == "service"
    for part in ("overall", "by_source", "scaling", "votes", "position", "calibration"):
        assert there[part] == here[part], part
    assert there["fingerprint"] == here["fingerprint"]
    assert there["cost"]["stopping"] == here["cost"]["stopping"]


def test_judge_options_reach_process_and_service(evaluate, data, tmp_path, url):
    options = ["--stop", "exact", "--timeout-s", "60", "--k-meta", "0", "--temperature", "0.7", "--seed", "2"]
    evaluate(data, "--url", url, "--out", tmp_path / "there", "--k", "8", *options)
    evaluate(data, "--out", tmp_path / "here", "--k", "8", *options)
    there, here = report(tmp_path / "there"), report(tmp_path / "here")
    setup = here["setup"]
    assert (setup["stop"], setup["timeout_s"], setup["k_meta"], setup["seed"]) == ("exact", 60, 0, 2)
    assert here["reading"]["taken"] < 40 * 8
    for part in ("overall", "by_source", "scaling", "reading", "calibration"):
        assert there[part] == here[part], part


def test_unreadable_items_count_as_wrong(evaluate, data, tmp_path):
    evaluate(data, "--out", tmp_path / "out", "--k", "2", GRM_SCRIPT="unreadable")
    figures = report(tmp_path / "out")
    assert figures["failed"] == {"all_unreadable": 40}
    assert (figures["overall"]["strict"], figures["reading"]["readable"]) == (0, 0)
    assert figures["calibration"] is None
    assert "40 items have no vote (all_unreadable)" in (tmp_path / "out" / "report.md").read_text()


def test_changed_principles_need_other_folder(evaluate, data, tmp_path):
    def principles(text):
        (tmp_path / "mine.yaml").write_text(
            f"{{name: mine, description: x, principles: [{{text: {text}, weight: 1.0}}]}}"
        )

    run = (data, "--out", tmp_path / "out", "--k", "2", "--principles", "fixed:mine")
    principles("It is right.")
    evaluate(*run, GRM_PRINCIPLES_DIR=str(tmp_path))
    principles("It is kind.")
    output = evaluate(*run, code=1, GRM_PRINCIPLES_DIR=str(tmp_path)).stderr
    assert "holds a run with principle_set_fingerprint" in output


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl cannot be read"),
        (["DATA", "--k", "0"], "--k '0': give numbers from 1 to 64"),
        (["DATA", "--k", "many"], "--k 'many'"),
        (["DATA", "--principles", "none"], "--principles 'none'"),
        (["DATA", "--format", "csv"], "unknown format 'csv'"),
        (["DATA", "--judge", "pairwise", "--score", "soft"], "--judge pairwise"),
        (["DATA", "--judge", "pairwise", "--stop", "exact"], "--stop, --timeout-s"),
        (["DATA", "--judge", "swapped", "--url", "http://127.0.0.1:9"], "in this process only"),
        (["DATA", "--profile", "nope"], "unknown profile 'nope'"),
        (["DATA", "--url", "localhost:9"], "is no address"),
        (["DATA", "--url", "http://127.0.0.1:9"], "no service answers at --url http://127.0.0.1:9"),
    ],
)
def test_unusable_arguments_give_one_line(evaluate, data, tmp_path, args, says):
    output = evaluate(*(data if each == "DATA" else each for each in args), "--out", tmp_path / "out", code=1)
    assert says in output.stderr
    assert sum(line.startswith("error:") for line in output.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["compare", "A"], "give two runs or more"),
        (["compare", "A", "B"], "holds no run of grm eval"),
        (["compare", "A", "A@loudest"], "unknown vote 'loudest'; known: mean, median, majority"),
        (["check", "A", "A"], "is no report of grm eval"),
    ],
)
def test_incomparable_runs_give_one_line(evaluate, data, tmp_path, args, says):
    evaluate(data, "--out", tmp_path / "A", "--k", "2")
    output = evaluate(*(args[:1] + [f"{tmp_path}/{each}" for each in args[1:]]), code=1)
    assert says in output.stderr
