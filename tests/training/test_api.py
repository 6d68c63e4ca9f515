"""The functions of grm_service.training, as docs/training.md shows them."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import grm_service.training
from grm_service.errors import BadSetting
from grm_service.profiles.catalog import load_profile
from grm_service.training import TrainingCallback
from grm_service.training.runs import write_profile
from tests.training.conftest import ITEMS, SHORT, needs_trl
from tests.training.test_inputs import write

PAGE = Path(__file__).parents[2] / "docs/training.md"
(EXAMPLE,) = re.findall(r"```py\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def inputs(tiny, tmp_path, monkeypatch):
    """Change to a folder with train.jsonl and my-judge.yaml, for the scripted engine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRM_ENGINE", "scripted")
    monkeypatch.setenv("GRM_AUDIT_URL", f"sqlite:///{tmp_path}/a.db")
    monkeypatch.setenv("GRM_AUDIT_KEY_FILE", str(tmp_path / "a.key"))
    write(tmp_path, ITEMS)
    (tmp_path / "data.jsonl").rename("train.jsonl")
    write_profile(replace(SHORT, model=str(tiny)), tmp_path, "Tiny.").rename("my-judge.yaml")


@needs_trl
@pytest.mark.filterwarnings("ignore")  # deprecations that TRL, peft and transformers cause each other
def test_documented_example_runs(inputs):
    # The tiny model needs larger steps for its adapter to change at all.
    code = EXAMPLE.replace("epochs=1.0", "epochs=4, learning_rate=1e-2").replace(
        "steps=100", "steps=1, groups=1"
    )
    names = {}
    exec(compile(code, "example", "exec"), names)
    rft, grpo, meta = names["rft"], names["grpo"], names["meta"]
    kept = sum(count.get("kept", 0) for count in rft.metrics["rates"].values())
    assert rft.metrics["examples"] == kept > 0
    assert grpo.metrics["steps"] == 1
    assert meta.metrics["held"]["n"] > 0
    assert load_profile(meta.profile).meta_rm == str(Path("runs/meta/meta-rm").resolve())


def test_sampling_calls_back(inputs, tmp_path):
    class Recorder(TrainingCallback):
        def __init__(self):
            self.events = []

        def on_sampling_begin(self, remaining, total):
            self.events.append((remaining, total))

        def on_item_sampled(self):
            self.events.append("item")

        def on_sampling_end(self):
            self.events.append("end")

    recorder = Recorder()
    config = grm_service.training.SamplingConfig(samples=2)
    sampled = grm_service.training.sample_trajectories(
        config, data="train.jsonl", out="t.jsonl", profile="my-judge.yaml", callback=recorder
    )
    assert len(sampled) == 12
    assert recorder.events == [(12, 12), *["item"] * 12, "end"]


def test_unknown_engine_is_refused(inputs):
    config = grm_service.training.SamplingConfig()
    with pytest.raises(BadSetting, match="GRM_ENGINE: Input should be"):
        grm_service.training.sample_trajectories(config, data="train.jsonl", out="t.jsonl", engine="vllm")


def test_all_names_exist():
    assert all(getattr(grm_service.training, name) for name in grm_service.training.__all__)
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        grm_service.training.other  # noqa: B018


def test_import_is_light():
    heavy = "{'torch', 'trl', 'transformers'}"
    code = f"import sys, grm_service.training; sys.exit(bool({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
