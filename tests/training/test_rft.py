"""Rejective fine-tuning on a tiny model, and that what is trained is what is served."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from grm_service.engines import choice
from grm_service.engines.choice import Source
from grm_service.errors import BadTask
from grm_service.factory import open_service
from grm_service.judging.orders import balanced_orders
from grm_service.judging.plan import plan
from grm_service.judging.sampler import Sampler
from grm_service.profiles.catalog import load_profile
from grm_service.settings import Settings
from grm_service.training import trainer_log
from grm_service.training.rejection_sampling import Example
from grm_service.training.trajectories import Trajectory
from grm_service.types import JudgeOptions, Message, Params, Prompt, Task
from tests.training.conftest import ITEMS, SHORT, needs_trl

pytestmark = [
    pytest.mark.anyio,
    needs_trl,
    pytest.mark.filterwarnings("ignore"),  # what TRL, peft and transformers say of each other
]
OPENED = replace(SHORT, opening="Specific Criteria:\n1. A good response")
TEXT = OPENED.opening + " says what is so.\nAnalysis: Both do.\nScores: \\boxed{8, 3}"
EXAMPLES = [
    Example(item, Trajectory(balanced_orders(2, 1, item.seed(0))[0], TEXT, (8.0, 3.0), True))
    for item in ITEMS[:6]
]


@pytest.fixture
def train(source, tmp_path):
    """Fine-tunes the tiny model; gives the learner, the run's folder and what its manifest says."""
    from grm_service.training.models import load
    from grm_service.training.rft import RFTConfig, fine_tune
    from grm_service.training.runs import TrainingRun

    def train(rank=4, general=(), examples=EXAMPLES, folder="x", **asked):
        torch.manual_seed(0)  # as in a process of its own, every adapter begins alike
        learner = load(source, rank)
        before = {name: value.detach().clone() for name, value in trained(learner.model)}
        run = TrainingRun(tmp_path / folder, "rft", replace(OPENED, model=source.model), {"rank": rank})
        given = RFTConfig(
            **{"rank": rank, "length": 512, "batch": 2, "learning_rate": 1e-2, "epochs": 4} | asked
        )
        metrics = fine_tune(run, learner, examples, list(general), given)
        still = [name for name, value in trained(learner.model) if value.equal(before[name])]
        run.finish(learner, metrics, "Trained by a test.")
        return still, run.folder, json.loads((run.folder / "manifest.json").read_text())

    return train


def trained(model):
    return [(name, value) for name, value in model.named_parameters() if value.requires_grad]


@pytest.mark.parametrize("rank", [4, None])
def test_every_trainable_parameter_moves_and_the_loss_falls(rank, train):
    still, folder, manifest = train(rank)
    assert still == []
    losses = [json.loads(line).get("loss") for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [loss for loss in losses if loss is not None]
    assert losses[-1] < losses[0] - 1
    assert manifest["trainable"] == (8960 if rank else 109376)
    assert manifest["metrics"]["examples"] == len(EXAMPLES)
    assert manifest["metrics"]["tokens_per_s"] > 0
    assert manifest["peak_memory_bytes"] > 2**20
    assert not (folder / "checkpoints").exists()


async def test_the_engine_is_fed_the_tokens_that_were_trained(tiny):
    from grm_service.engines.transformers.engine import TransformersEngine
    from grm_service.training.encoding import Encoder

    engine = TransformersEngine("tiny", lambda: str(tiny))
    await engine.start()
    fed, write = [], engine._writer.write

    async def watched(ids, params):
        fed.append(ids)
        return await write(ids, params)

    engine._writer.write = watched
    item = ITEMS[0]
    planned = plan(Task(item.messages, item.responses, options=JudgeOptions(k=2, seed=3)), OPENED)
    encoder = Encoder(engine._tokenizer, OPENED, engine._ends)
    trained = encoder.example(Example(item, Trajectory(planned.orders[1], TEXT, (8.0, 3.0), True)))
    await Sampler(engine).sample(planned, 1)
    assert fed[0] == trained.prompt
    # All of it, as when the engine is asked for the probabilities behind what was written.
    asked = replace(encoder.prompt(item, planned.orders[1]), continuation=TEXT)
    await engine.complete(asked, Params(1))
    assert fed[-1] == trained.prompt + trained.completion[:-1]
    assert trained.completion[-1] == engine._tokenizer.convert_tokens_to_ids("<|im_end|>")
    await engine.close()


def test_the_loss_is_on_the_completion_only(tiny):
    from transformers import AutoTokenizer

    from grm_service.training.encoding import Encoder

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    row = Encoder(tokenizer, OPENED, (1,)).example(EXAMPLES[0]).row
    learnt = [label for label in row["labels"] if label != -100]
    assert tokenizer.decode(learnt) == TEXT.removeprefix(OPENED.opening) + "<|im_end|>"
    assert row["input_ids"][-len(learnt) :] == learnt


def test_the_scores_alone_are_learnt_where_that_is_asked_for(tiny):
    from transformers import AutoTokenizer

    from grm_service.training.encoding import Encoder

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    whole = Encoder(tokenizer, OPENED, (1,)).example(EXAMPLES[0]).row
    scores = Encoder(tokenizer, OPENED, (1,), only_scores=True).example(EXAMPLES[0]).row
    assert scores["input_ids"] == whole["input_ids"]
    learnt = [label for label in scores["labels"] if label != -100]
    assert "8, 3}" in tokenizer.decode(learnt)
    assert "boxed" not in tokenizer.decode(learnt)
    assert scores["labels"][-len(learnt) :] == whole["input_ids"][-len(learnt) :]


def test_what_stands_behind_the_scores_is_not_learnt_and_other_beginnings_are_left_out(tiny):
    from transformers import AutoTokenizer

    from grm_service.training.encoding import Encoder, dataset

    encoder = Encoder(AutoTokenizer.from_pretrained(tiny), OPENED, (1,))
    rambling = [
        replace(e, trajectory=replace(e.trajectory, text=e.trajectory.text + "\nSo")) for e in EXAMPLES
    ]
    assert dataset(encoder, rambling, [], 512, 0) == dataset(encoder, EXAMPLES, [], 512, 0)
    other = [replace(e, trajectory=replace(e.trajectory, text="Scores: \\boxed{8, 3}")) for e in EXAMPLES]
    rows, left_out = dataset(encoder, [*other, EXAMPLES[0]], [], 512, 0)
    assert (len(rows), left_out) == (1, {"not_opened": 6})
    assert dataset(encoder, EXAMPLES, [], 64, 0)[1] == {"too_long": 6}


def test_a_packed_example_is_computed_as_if_it_were_alone(train, source, tmp_path):
    from grm_service.training.encoding import Encoder
    from grm_service.training.models import load
    from grm_service.training.rft import RFTConfig, trainer
    from grm_service.training.runs import TrainingRun

    learner = load(source, None)
    encoder = Encoder(learner.tokenizer, OPENED, learner.ends)
    rows = [encoder.example(example) for example in EXAMPLES]
    run = TrainingRun(tmp_path / "packed", "rft", replace(OPENED, model="tiny"), {})
    made = trainer(run, learner, rows, RFTConfig(None, length=1024, batch=1))
    packed = next(iter(made.get_train_dataloader()))
    starts = packed["cu_seq_lens_q"].tolist()
    assert len(starts) > 3, "several examples in the row"
    with torch.no_grad():
        together = made.model.model(**{k: packed[k] for k in ("input_ids", "position_ids")})
        for start, end in pairwise(starts):
            alone = made.model.model(packed["input_ids"][:, start:end]).last_hidden_state
            assert torch.allclose(together.last_hidden_state[:, start:end], alone, atol=1e-4)


@pytest.mark.parametrize("rank", [4, None])
async def test_the_profile_of_a_run_serves_it_on_both_engines(rank, train, source, monkeypatch, tmp_path):
    from grm_service.engines.openvino.engine import OpenVINOEngine
    from grm_service.engines.transformers.engine import TransformersEngine

    _, folder, _ = train(rank, epochs=20)
    profile = load_profile(folder / "profile.yaml")
    assert profile.name == "x"
    assert profile.model == str(folder / "model")
    monkeypatch.chdir(tmp_path)
    made = Source.of(load_profile((folder / "profile.yaml").relative_to(tmp_path)), tmp_path)
    assert choice.embedded("auto", made, None, "f32")[0].name == "openvino"
    engines = [
        TransformersEngine("m", lambda: choice.transformers_files(made)),
        OpenVINOEngine("m", lambda: choice._openvino_files(made), 0.1, "f32"),
        TransformersEngine("m", lambda: choice.transformers_files(source)),
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


def test_the_server_warns_where_profile_and_checkpoint_do_not_belong_together(train, caplog, tmp_path):
    _, folder, _ = train()
    audit = {"audit_url": f"sqlite:///{tmp_path}/a.db", "audit_key_file": tmp_path / "a.key"}
    open_service(Settings(profile=str(folder / "profile.yaml"), **audit))
    assert caplog.records == []
    open_service(Settings(profile="generic-judge", model=str(folder / "model"), **audit))
    (record,) = caplog.records
    assert "was trained with the prompt and output format of test" in record.message


def test_general_instructions_are_mixed_in_by_their_share(train, tmp_path):
    from grm_service.training import instruction_data

    rows = [
        {"prompt": f"Name {i} primes.", "completion": "2, 3"}
        if i % 2
        else {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
        for i in range(20)
    ]
    file = tmp_path / "general.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = instruction_data.read(file)
    assert read[0] == (Message("user", "x"), Message("assistant", "y"))
    assert read[1] == (Message("user", "Name 1 primes."), Message("assistant", "2, 3"))
    assert len(instruction_data.share_of(read, 0.25, 6, 0)) == 2
    assert len(instruction_data.share_of(read, 0.9, 6, 0)) == 20, "all there are"
    _, _, manifest = train(general=instruction_data.share_of(read, 0.25, 6, 0), epochs=1)
    assert manifest["metrics"]["examples"] == 8
    file.write_text('{"prompt": "x"}\n')
    with pytest.raises(BadTask, match="row 1, is no instruction: KeyError 'completion'"):
        instruction_data.read(file)


@pytest.mark.parametrize("rank", [4, None])
def test_a_run_that_was_cut_off_goes_on_from_its_checkpoint_to_the_same_model(rank, train, monkeypatch):
    from safetensors.torch import load_file
    from transformers import TrainerCallback

    from grm_service.training import rft

    class Killed(TrainerCallback):
        def on_save(self, args, state, control, **_):
            if state.global_step >= 3:
                raise KeyboardInterrupt

    def watched(trainer, file):
        trainer_log.watch(trainer, file)
        trainer.add_callback(Killed())

    _, whole, untouched = train(rank)
    with monkeypatch.context() as patched:
        patched.setattr(rft, "watch", watched)
        with pytest.raises(KeyboardInterrupt):
            train(rank, folder="cut")
    _, cut, gone_on = train(rank, folder="cut")
    assert gone_on["metrics"]["steps"] == untouched["metrics"]["steps"] > 3
    steps = [json.loads(line) for line in (cut / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps if "loss" in row] == list(range(1, gone_on["metrics"]["steps"] + 1))
    (name,) = (file.name for file in (whole / "model").glob("*.safetensors"))
    first, second = (load_file(folder / "model" / name) for folder in (whole, cut))
    assert first.keys() == second.keys()
    assert all(first[key].equal(second[key]) for key in first)


def test_a_finished_run_is_not_written_over(train):
    train()
    with pytest.raises(BadTask, match="holds a finished run"):
        train()


def test_an_instruction_is_encoded_as_it_is_asked(tiny):
    from transformers import AutoTokenizer

    from grm_service.engines.transformers.engine import encode
    from grm_service.training.encoding import Encoder

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokens = Encoder(tokenizer, OPENED, (1,)).general((Message("user", "x"), Message("assistant", "y")))
    assert tokens.prompt == encode(tokenizer, Prompt((Message("user", "x"),)))
