"""grm train as a person runs it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from grm_service.cli.train_common import items_of, run_of
from grm_service.errors import BadTask
from grm_service.profiles.catalog import load_profile
from grm_service.training.rft import RFTConfig
from grm_service.training.runs import write_profile
from grm_service.training.trajectories import read
from tests.cli.test_cli import run
from tests.training.conftest import SHORT, needs_trl

pytestmark = [
    needs_trl,
    pytest.mark.filterwarnings("ignore"),  # what TRL, peft and transformers say of each other
]


@pytest.fixture
def data(tmp_path):
    def row(i):
        said = [f"{i} and {j}, which is {i * j}" for j in range(2)]
        asked = [{"role": "user", "content": f"Question {i}?"}]
        best = None if i == 0 else i % 2
        return {"id": str(i), "source": "ab"[i % 2], "messages": asked, "responses": said, "preferred": best}

    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(row(i)) + "\n" for i in range(13)))
    return str(file)


@pytest.fixture
def base(tiny, tmp_path):
    """The profile of the tiny model."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "model").symlink_to(tiny)
    return write_profile(replace(SHORT, model="./model"), folder, "Tiny.")


@pytest.fixture
def train(tmp_path, base):
    trail = {"GRM_AUDIT_URL": f"sqlite:///{tmp_path}/a.db", "GRM_AUDIT_KEY_FILE": str(tmp_path / "a.key")}

    def train(*args, code=0):
        args = [str(arg) for arg in args]
        if "--profile" not in args:
            args += ["--profile", str(base)]
        result = run("train", *args, env=trail)
        assert result.exit_code == code, result.output
        return result

    return train


def test_forms_then_rft_then_grpo_and_each_run_is_the_next_one_s_profile(train, data, tmp_path):
    forms, rft, grpo = tmp_path / "forms.jsonl", tmp_path / "rft", tmp_path / "grpo"
    said = train("forms", data, "--out", forms, "--samples", 2)
    assert "1 rows left out: no single best response" in said.stderr
    assert len(read(forms)[1]) == 12
    said = train("rft", data, "--out", rft, "--trajectories", forms, "--rank", 4, "--batch", 2)
    assert f"ready: grm serve --profile {rft}/profile.yaml" in said.stderr
    manifest = json.loads((rft / "manifest.json").read_text())
    assert manifest["metrics"]["rates"] == {"a": {"kept": 12}, "b": {"kept": 12}}
    assert set(manifest["arguments"]["sha256"]) == {"data", "trajectories_0"}
    steps = ["--steps", 1, "--groups", 1, "--group", 2, "--held", 0.2, "--evaluations", 1]
    again = ["--profile", rft / "profile.yaml", "--learning-rate", 1.0]
    # Nothing that the tiny model writes is right: there is nothing to learn from, and what it has stays.
    said = train("grpo", data, "--out", grpo, *steps, *again)
    assert "10 items; 2 only measure, 0 are too easy" in said.stderr
    assert load_profile(grpo / "profile.yaml").name == "grpo"
    assert (grpo / "curves.png").is_file()


@pytest.mark.slow
def test_two_processes_train_one_model(train, data, base, tmp_path):
    forms, out = tmp_path / "forms.jsonl", tmp_path / "rft"
    train("forms", data, "--out", forms, "--samples", 2)
    config = Path(__file__).parents[2] / "examples/accelerate.yaml"
    launch = ["--config_file", config, "--num_processes", "2", "-m", "grm_service", "train", "rft"]
    given = [data, "--out", out, "--trajectories", forms, "--rank", "4", "--batch", "2", "--profile", base]
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch, *given]
    subprocess.run(command, check=True, timeout=280)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["finished"]
    assert manifest["processes"] == 2
    assert load_profile(out / "profile.yaml").name == "rft"
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)  # one of them writes
    assert manifest["metrics"]["steps"] == max(steps)


def test_rft_samples_first_where_no_trajectories_are_given_and_goes_on_in_its_file(train, data, tmp_path):
    out = tmp_path / "rft"
    asked = ["rft", data, "--out", out, "--engine", "scripted", "--rank", 4, "--samples", 2]
    asked += ["--keep-easy", "--epochs", 4]
    said = train(*asked)
    found = read(out / "trajectories.jsonl")
    assert (found[0].engine, found[0].samples, len(found[1])) == ("scripted", 2, 12)
    assert "kept" in said.stderr
    assert json.loads((out / "manifest.json").read_text())["metrics"]["examples"] > 0
    said = train(*asked, code=1)
    assert "12 of 12 items were sampled before" in said.stderr
    assert "holds a finished run: take a new folder" in said.stderr


def test_a_run_does_not_go_on_with_other_data_whatever_they_are_read_from(data, source, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / Path(data).name

    def begin():
        return run_of(tmp_path / "run", "rft", SHORT, source, RFTConfig(), items_of(str(folder), None), {})

    file.write_text(Path(data).read_text())
    begin()
    begin()
    file.write_text(file.read_text().replace("and 1,", "and one,"))
    with pytest.raises(BadTask, match="take a new folder"):
        begin()


def test_a_file_of_trajectories_does_not_go_on_with_another_judge(train, data, base, tmp_path):
    train("forms", data, "--out", tmp_path / "forms.jsonl")
    base.write_text(base.read_text().replace("max_tokens: 64", "max_tokens: 65"))
    said = train("forms", data, "--out", tmp_path / "forms.jsonl", code=1)
    assert "take a new file" in said.stderr


def test_trajectories_of_another_form_are_refused(train, data, tmp_path):
    train("forms", data, "--out", tmp_path / "forms.jsonl", "--profile", "smollm2-judge")
    said = train("rft", data, "--out", tmp_path / "x", "--trajectories", tmp_path / "forms.jsonl", code=1)
    assert (
        "was made with the profile smollm2-judge, whose prompt or form is not that of base now" in said.stderr
    )


def test_without_the_extra_the_command_says_what_to_install(train, data, tmp_path, monkeypatch):
    monkeypatch.setattr("grm_service.training.models.find_spec", lambda name: None)
    for kind in (["rft"], ["grpo"], ["meta-rm", "--trajectories", "x"]):
        said = train(*kind, data, "--out", tmp_path / "x", code=1)
        assert "pip install 'grm-service[train]'" in said.stderr


def test_a_meta_rm_is_trained_from_trajectories_and_its_run_is_a_profile_with_it(train, data, tmp_path):
    sampled, out = tmp_path / "sampled.jsonl", tmp_path / "guided"
    train("sample", data, "--out", sampled, "--engine", "scripted", "--samples", 4)
    asked = ["meta-rm", data, "--trajectories", sampled, "--out", out, "--rank", 4, "--held", 0.3]
    said = train(*asked)
    assert "trajectories left out: hinted" in said.stderr
    assert f"ready: grm serve --profile {out}/profile.yaml" in said.stderr
    profile = load_profile(out / "profile.yaml")
    assert (profile.name, profile.meta_rm) == ("guided", str(out / "meta-rm"))
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["kind"] == "meta-rm"
    assert 0 <= manifest["metrics"]["held"]["auc"]["value"] <= 1
    assert "holds a finished run" in train(*asked, code=1).stderr
