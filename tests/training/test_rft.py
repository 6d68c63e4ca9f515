"""Rejective fine-tuning of a tiny model, whose profile both engines then serve."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file

from grm_service.engines.choice import choose_engine
from grm_service.engines.files.adapter import WEIGHTS
from grm_service.engines.files.convert import convert
from grm_service.engines.files.source import ModelSource, openvino_path, transformers_path
from grm_service.errors import BadTask
from grm_service.factory import open_service
from grm_service.judging.plan import plan
from grm_service.judging.sampler import Sampler
from grm_service.profiles.catalog import load_profile
from grm_service.settings import Settings
from grm_service.training import trainer_log
from grm_service.training.instruction_data import draw_share
from grm_service.types import JudgeOptions, Message, Task
from tests.training.conftest import EXAMPLES, ITEMS, OPENED, RANKS, TEXT, needs_trl

pytestmark = [
    pytest.mark.anyio,
    needs_trl,
    pytest.mark.filterwarnings("ignore"),  # deprecations that TRL, peft and transformers cause each other
]


@pytest.fixture
def train(source, tmp_path):
    """Fine-tune the tiny model; return the parameters that did not move, the folder and the manifest."""
    from grm_service.training.models import load
    from grm_service.training.rft import RFTConfig, train_rft
    from grm_service.training.runs import TrainingRun

    def train(rank=4, instructions=(), examples=EXAMPLES, folder="x", **changed):
        torch.manual_seed(0)  # the same initial adapter in every run, as in a new process
        learner = load(source, rank, changed.get("layers"))
        before = {name: value.detach().clone() for name, value in trained(learner.model)}
        run = TrainingRun(tmp_path / folder, "rft", replace(OPENED, model=source.model), {"rank": rank})
        config = RFTConfig(
            **{"rank": rank, "length": 512, "batch": 2, "learning_rate": 1e-2, "epochs": 4} | changed
        )
        metrics = train_rft(run, learner, examples, list(instructions), config)
        unmoved = [name for name, value in trained(learner.model) if value.equal(before[name])]
        run.finish(learner, metrics, "Trained by a test.")
        return unmoved, run.folder, json.loads((run.folder / "manifest.json").read_text())

    return train


def trained(model):
    return [(name, value) for name, value in model.named_parameters() if value.requires_grad]


@RANKS
def test_every_parameter_moves_and_loss_falls(rank, train):
    unmoved, folder, manifest = train(rank)
    assert unmoved == []
    losses = [json.loads(line).get("loss") for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [loss for loss in losses if loss is not None]
    assert losses[-1] < losses[0] - 1
    assert manifest["trainable"] == (8960 if rank else 109376)
    assert manifest["metrics"]["examples"] == len(EXAMPLES)
    assert manifest["metrics"]["tokens_per_s"] > 0
    assert manifest["peak_memory_bytes"] > 2**20
    assert not (folder / "checkpoints").exists()


def test_adapter_on_the_last_layers(train, tmp_path):
    _, folder, _ = train(layers=1, epochs=1)
    names = load_file(folder / "model" / WEIGHTS).keys()
    assert {name.split("layers.")[1].split(".")[0] for name in names} == {"1"}
    assert {name.split(".")[-3] for name in names} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip
    convert(folder / "model", tmp_path / "model.gguf")


def test_packed_examples_are_independent(train, source, tmp_path):
    from grm_service.training.encoding import Encoder
    from grm_service.training.models import load
    from grm_service.training.rft import RFTConfig, sft_trainer
    from grm_service.training.runs import TrainingRun

    learner = load(source, None)
    encoder = Encoder(learner.tokenizer, OPENED, learner.eos_token_ids)
    rows = [encoder.example(example) for example in EXAMPLES]
    run = TrainingRun(tmp_path / "packed", "rft", replace(OPENED, model="tiny"), {})
    trainer = sft_trainer(run, learner, rows, RFTConfig(None, length=1024, batch=1))
    packed = next(iter(trainer.get_train_dataloader()))
    starts = packed["cu_seq_lens_q"].tolist()
    assert len(starts) > 3, "several examples in the row"
    with torch.no_grad():
        together = trainer.model.model(**{k: packed[k] for k in ("input_ids", "position_ids")})
        for start, end in pairwise(starts):
            alone = trainer.model.model(packed["input_ids"][:, start:end]).last_hidden_state
            assert torch.allclose(together.last_hidden_state[:, start:end], alone, atol=1e-4)


@RANKS
async def test_both_engines_serve_the_profile(rank, train, source, monkeypatch, tmp_path):
    from grm_service.engines.openvino.engine import OpenVINOEngine
    from grm_service.engines.transformers.engine import TransformersEngine

    _, folder, _ = train(rank, epochs=20)
    profile = load_profile(folder / "profile.yaml")
    assert profile.name == "x"
    assert profile.model == str(folder / "model")
    monkeypatch.chdir(tmp_path)
    trained_source = ModelSource.from_profile(
        load_profile((folder / "profile.yaml").relative_to(tmp_path)), tmp_path
    )
    assert choose_engine("auto", trained_source, None, "f32")[0].name == "openvino"
    engines = [
        TransformersEngine("m", lambda: transformers_path(trained_source)),
        OpenVINOEngine("m", lambda: openvino_path(trained_source), 0.1, "f32"),
        TransformersEngine("m", lambda: transformers_path(source)),
    ]
    texts = []
    for engine in engines:
        await engine.start()
        item = ITEMS[0]
        planned = plan(Task(item.messages, item.responses, options=JudgeOptions(k=1, max_tokens=96)), profile)
        texts.append((await Sampler(engine).sample(planned, 0)).text)
        await engine.close()
    trained, merged, base = texts
    assert trained == TEXT
    assert merged == trained
    assert base != trained


def test_mismatched_profile_is_warned_about(train, caplog, tmp_path):
    _, folder, _ = train()
    audit = {"audit_url": f"sqlite:///{tmp_path}/a.db", "audit_key_file": tmp_path / "a.key"}
    open_service(Settings(profile=str(folder / "profile.yaml"), **audit))
    assert caplog.records == []
    open_service(Settings(profile="generic-judge", model=str(folder / "model"), **audit))
    (record,) = caplog.records
    assert "was trained with the prompt and output format of test" in record.message


@RANKS
def test_interrupted_run_resumes_to_same_model(rank, train, monkeypatch):
    from safetensors.torch import load_file
    from transformers import TrainerCallback

    from grm_service.training import rft

    class Killed(TrainerCallback):
        def on_save(self, args, state, control, **_):
            if state.global_step >= 3:
                raise KeyboardInterrupt

    def add_callbacks(trainer, file):
        trainer_log.add_log_callback(trainer, file)
        trainer.add_callback(Killed())

    _, whole, uninterrupted = train(rank)
    with monkeypatch.context() as patched:
        patched.setattr(rft, "add_log_callback", add_callbacks)
        with pytest.raises(KeyboardInterrupt):
            train(rank, folder="cut")
    _, cut, resumed = train(rank, folder="cut")
    assert resumed["metrics"]["steps"] == uninterrupted["metrics"]["steps"] > 3
    steps = [json.loads(line) for line in (cut / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps if "loss" in row] == list(range(1, resumed["metrics"]["steps"] + 1))
    (name,) = (file.name for file in (whole / "model").glob("*.safetensors"))
    first, second = (load_file(folder / "model" / name) for folder in (whole, cut))
    assert first.keys() == second.keys()
    assert all(first[key].equal(second[key]) for key in first)


def test_finished_run_is_not_overwritten(train):
    train()
    with pytest.raises(BadTask, match="holds a finished run"):
        train()


def test_instructions_are_mixed_in(train):
    instructions = [(Message("user", f"Name {i} primes."), Message("assistant", "2, 3")) for i in range(20)]
    _, _, manifest = train(instructions=draw_share(instructions, 0.25, 6, 0), epochs=1)
    assert manifest["metrics"]["examples"] == 8
