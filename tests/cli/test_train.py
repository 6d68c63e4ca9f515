"""The commands of grm train."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from grm_service.profiles.catalog import load_profile
from grm_service.training.runs import write_profile
from grm_service.training.trajectories import read_trajectories
from tests.cli.test_cli import run
from tests.engines.tiny import save_model
from tests.training.conftest import SHORT, needs_trl, one_thread  # noqa: F401

pytestmark = [
    needs_trl,
    pytest.mark.filterwarnings("ignore"),  # deprecations that TRL, peft and transformers cause each other
]


@pytest.fixture
def data(tmp_path):
    def row(i):
        responses = [f"{i} and {j}, which is {i * j}" for j in range(2)]
        messages = [{"role": "user", "content": f"Question {i}?"}]
        best = None if i == 0 else i % 2
        return {
            "id": str(i),
            "source": "ab"[i % 2],
            "messages": messages,
            "responses": responses,
            "preferred": best,
        }

    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(row(i)) + "\n" for i in range(13)))
    return str(file)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("tiny"), "llama", max_position_embeddings=2048)


@pytest.fixture
def base(tiny, tmp_path):
    """Return the file of the tiny model's profile."""
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


def test_forms_then_rft_then_grpo(train, data, tmp_path):
    forms, rft, grpo = tmp_path / "forms.jsonl", tmp_path / "rft", tmp_path / "grpo"
    result = train("forms", data, "--out", forms, "--samples", 2)
    assert "1 rows skipped: no single best response" in result.stderr
    assert len(read_trajectories(forms)[1]) == 12
    result = train("rft", data, "--out", rft, "--trajectories", forms, "--rank", 4, "--batch", 2)
    assert f"ready: grm serve --profile {rft}/profile.yaml" in result.stderr
    manifest = json.loads((rft / "manifest.json").read_text())
    assert manifest["metrics"]["rates"] == {"a": {"kept": 12}, "b": {"kept": 12}}
    assert set(manifest["arguments"]["sha256"]) == {"data", "trajectories_0"}
    steps = ["--steps", 1, "--groups", 1, "--group", 2, "--held", 0.2, "--evaluations", 1]
    again = ["--profile", rft / "profile.yaml", "--learning-rate", 1.0]
    # The tiny model writes no right judgement, so there is no gradient and the weights stay.
    result = train("grpo", data, "--out", grpo, *steps, *again)
    assert "10 items, 2 held-out items, 0 items too easy" in result.stderr
    assert load_profile(grpo / "profile.yaml").name == "grpo"
    assert (grpo / "curves.png").is_file()


@pytest.mark.slow
def test_two_processes_train_one_model(train, data, base, tmp_path):
    forms, out = tmp_path / "forms.jsonl", tmp_path / "rft"
    train("forms", data, "--out", forms, "--samples", 2)
    config = Path(__file__).parents[2] / "examples/accelerate.yaml"
    launch = ["--config_file", config, "--num_processes", "2", "-m", "grm_service", "train", "rft"]
    options = [data, "--out", out, "--trajectories", forms, "--rank", "4", "--batch", "2", "--profile", base]
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch, *options]
    subprocess.run(command, check=True, timeout=280)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["finished"]
    assert manifest["processes"] == 2
    assert load_profile(out / "profile.yaml").name == "rft"
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)  # only one process writes
    assert manifest["metrics"]["steps"] == max(steps)


def test_rft_samples_first(train, data, tmp_path):
    out = tmp_path / "rft"
    command = ["rft", data, "--out", out, "--engine", "scripted", "--rank", 4, "--samples", 2]
    command += ["--keep-easy", "--epochs", 4]
    result = train(*command)
    setup, trajectories = read_trajectories(out / "trajectories.jsonl")
    assert (setup.engine, setup.samples, len(trajectories)) == ("scripted", 2, 12)
    assert "kept" in result.stderr
    assert json.loads((out / "manifest.json").read_text())["metrics"]["examples"] > 0
    result = train(*command, code=1)
    assert "12 of 12 items are already sampled" in result.stderr
    assert "holds a finished run: use a new folder" in result.stderr


def test_sample_takes_judge_options(train, data, tmp_path):
    out = tmp_path / "sampled.jsonl"
    options = ["--temperature", 0.9, "--max-tokens", 48, "--principles", "fixed:helpfulness", "--seed", 3]
    train("sample", data, "--out", out, "--engine", "scripted", *options)
    setup, trajectories = read_trajectories(out)
    assert (setup.temperature, setup.max_tokens, setup.seed) == (0.9, 48, 3)
    assert (setup.principles.mode, setup.principles.set_name) == ("fixed", "helpfulness")
    assert len(setup.principles.items) > 1
    assert len(trajectories) == 12
    result = train("sample", data, "--out", out, "--engine", "scripted", *options[2:], code=1)
    assert "temperature 0.9, now None" in result.stderr


def test_other_judge_needs_another_file(train, data, base, tmp_path):
    train("forms", data, "--out", tmp_path / "forms.jsonl")
    base.write_text(base.read_text().replace("max_tokens: 64", "max_tokens: 65"))
    result = train("forms", data, "--out", tmp_path / "forms.jsonl", code=1)
    assert "use a new file" in result.stderr


def test_trajectories_of_another_format(train, data, tmp_path):
    train("forms", data, "--out", tmp_path / "forms.jsonl", "--profile", "smollm2-judge")
    result = train("rft", data, "--out", tmp_path / "x", "--trajectories", tmp_path / "forms.jsonl", code=1)
    message = "was sampled with the profile smollm2-judge, whose prompt or output format is not that of base"
    assert message in result.stderr


def test_missing_extra_is_named(train, data, tmp_path, monkeypatch):
    monkeypatch.setattr("grm_service.training.models.find_spec", lambda name: None)
    for kind in (["rft"], ["grpo"], ["meta-rm", "--trajectories", "x"]):
        result = train(*kind, data, "--out", tmp_path / "x", code=1)
        assert "pip install 'grm-service[train]'" in result.stderr


def test_meta_rm_from_trajectories(train, data, tmp_path):
    sampled, out = tmp_path / "sampled.jsonl", tmp_path / "guided"
    train("sample", data, "--out", sampled, "--engine", "scripted", "--samples", 4)
    command = ["meta-rm", data, "--trajectories", sampled, "--out", out, "--rank", 4, "--held", 0.3]
    result = train(*command)
    assert "trajectories skipped: hinted" in result.stderr
    assert f"ready: grm serve --profile {out}/profile.yaml" in result.stderr
    profile = load_profile(out / "profile.yaml")
    assert (profile.name, profile.meta_rm) == ("guided", str(out / "meta-rm"))
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["kind"] == "meta-rm"
    assert 0 <= manifest["metrics"]["held"]["auc"]["value"] <= 1
    assert "holds a finished run" in train(*command, code=1).stderr
