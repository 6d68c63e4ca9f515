"""The meta RM: selection of its examples, training, and voting with the trained model."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from grm_service.engines.files.source import ModelSource
from grm_service.errors import BadTask
from grm_service.evaluation.dataset import Item
from grm_service.factory import open_service
from grm_service.judging.orders import balanced_orders
from grm_service.profiles.catalog import load_profile
from grm_service.settings import Settings
from grm_service.training.meta_rm import MetaRMConfig, select_judgements, split
from grm_service.training.trajectories import ItemTrajectories, Trajectory
from grm_service.types import Completion, JudgeOptions, Message, Task, Usage
from tests.training.conftest import SHORT, item, needs_trl

pytestmark = [
    pytest.mark.anyio,
    needs_trl,
    pytest.mark.filterwarnings("ignore"),  # deprecations that TRL, peft and transformers cause each other
]
ITEMS = [item(i, (i % 2,)) for i in range(20)]


def judged(of):
    """Return one right and one wrong judgement of an item, which differ in their words."""
    trajectories = []
    for right, order in zip((True, False), balanced_orders(2, 2, of.seed(0)), strict=True):
        best = of.correct[0] if right else 1 - of.correct[0]
        boxed = ", ".join("8" if i == best else "3" for i in order)
        words = "I have checked each step." if right else "One looks longer, so it wins."
        text = f"Specific Criteria:\n1. Is it right?\nAnalysis: {words}\nScores: \\boxed{{{boxed}}}"
        scores = tuple(8.0 if i == best else 3.0 for i in range(2))
        trajectories.append(Trajectory(order, text, scores, right))
    return ItemTrajectories.of(of, tuple(trajectories))


JUDGED = [judged(each) for each in ITEMS]


@pytest.fixture
def train(source, tmp_path):
    """Train one on the tiny model; return the learner, the run's folder and its manifest."""
    from grm_service.training.meta_rm import train_meta_rm
    from grm_service.training.models import load_classifier
    from grm_service.training.runs import TrainingRun

    def train(rank=4, source=source, folder="x", trajectories=JUDGED, held_out=0.25, **changed):
        learner = load_classifier(source, rank)
        before = {n: v.detach().clone() for n, v in learner.model.named_parameters() if v.requires_grad}
        run = TrainingRun(tmp_path / folder, "meta-rm", replace(SHORT, model=source.model), {"rank": rank})
        examples, _ = select_judgements(ITEMS, trajectories)
        config = MetaRMConfig(**{"rank": rank, "batch": 4, "epochs": 4, "learning_rate": 1e-2} | changed)
        result = train_meta_rm(run, learner, *split(examples, held_out), config)
        return SimpleNamespace(
            learner=learner,
            before=before,
            folder=run.folder,
            file=result.profile,
            manifest=json.loads((run.folder / "manifest.json").read_text()),
        )

    return train


def unmoved(trained):
    """Return the names of trainable parameters that did not move, of a model without an adapter."""
    after = dict(trained.learner.model.named_parameters())
    return [name for name, value in trained.before.items() if value.equal(after[name])]


def test_every_parameter_moves_and_loss_falls(train):
    trained = train(None)
    assert unmoved(trained) == []
    losses = [
        json.loads(line).get("loss") for line in (trained.folder / "log.jsonl").read_text().splitlines()
    ]
    losses = [loss for loss in losses if loss is not None]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-3), "in nats, of one judgement at an even chance"
    assert losses[-1] < 0.2
    metrics = trained.manifest["metrics"]
    assert (metrics["examples"], metrics["right"], metrics["held_items"]) == (30, 0.5, 5)
    assert metrics["steps"] == 32
    assert metrics["held"]["auc"]["value"] == metrics["held"]["within"]["value"] == 1.0
    assert metrics["held"]["n"] == 10
    assert metrics["tokens"] > 10_000
    assert metrics["tokens_per_s"] > 0
    assert trained.manifest["peak_memory_bytes"] > 2**20
    assert trained.manifest["trainable"] == 109376 + 64
    assert not (trained.folder / "checkpoints").exists()


def test_adapter_is_merged_with_head(train, monkeypatch):
    from peft.tuners.lora import LoraModel

    states, whole = [], LoraModel.merge_and_unload

    def merge(self, *args, **kwargs):
        states.append({f"base_model.{n}": v.detach().clone() for n, v in self.named_parameters()})
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(LoraModel, "merge_and_unload", merge)
    trained = train(4)
    (after,) = states
    assert [name for name, value in trained.before.items() if value.equal(after[name])] == []
    assert any("score" in name for name in trained.before)
    assert {value.dtype for value in trained.before.values()} == {torch.float32}
    assert trained.manifest["metrics"]["held"]["auc"]["value"] > 0.9
    assert not (trained.folder / "meta-rm/adapter_config.json").exists()


def test_only_sampled_trajectories_are_selected():
    of = ITEMS[0]
    sampled = JUDGED[0].trajectories
    others = (
        replace(sampled[0], origin="hinted"),
        replace(sampled[0], origin="form"),
        replace(sampled[1], scores=None, error="no_scores"),
    )
    examples, skipped = select_judgements(ITEMS, [ItemTrajectories.of(of, (*sampled, *others))])
    assert [example.trajectory for example in examples] == list(sampled)
    assert skipped == {"hinted": 1, "form": 1, "no_scores": 1}
    with pytest.raises(BadTask, match="have changed since it was sampled"):
        select_judgements([replace(of, responses=("other", "texts"))], JUDGED)


def test_split_keeps_groups_together():
    items = [replace(each, group=f"g{i // 2}") for i, each in enumerate(ITEMS)]
    examples, _ = select_judgements(items, JUDGED)
    for held_out in (0, 0.1, 0.25, 0.5):
        train_part, eval_part = split(examples, held_out)
        assert len(train_part) + len(eval_part) == 40
        assert len({each.item.id for each in eval_part}) >= round(20 * held_out)
        groups = [{each.item.group for each in part} for part in (train_part, eval_part)]
        assert groups[0] & groups[1] == set()
    assert split(examples, 0)[1] == []


def test_all_right_is_refused(train):
    right = [replace(each, trajectories=each.trajectories[:1]) for each in JUDGED]
    with pytest.raises(BadTask, match="15 judgements are all right or all wrong"):
        train(trajectories=right)
    with pytest.raises(BadTask, match=r"0 judgements .*30 were too long"):
        train(folder="y", length=20)


async def test_service_votes_the_better_half(train, tmp_path):
    trained = train(4)
    profile = load_profile(trained.file)
    assert (profile.name, profile.meta_rm) == ("x", str(trained.folder / "meta-rm"))
    assert profile.model == trained.learner.files
    audit = {"audit_url": f"sqlite:///{tmp_path}/a.db", "audit_key_file": tmp_path / "a.key"}
    service = open_service(Settings(profile=str(trained.file), engine="transformers", **audit))
    texts = iter([each.text for each in JUDGED[0].trajectories] * 2)

    async def start():
        pass

    async def complete(prompt, params):
        return Completion(next(texts), "stop", Usage())

    # The judge is scripted; the meta RM is the trained one, in its own process.
    service.engine.start, service.engine.complete = start, complete
    service.engine._up.set()
    await service.start()
    record = await service.judge(Task(ITEMS[0].messages, ITEMS[0].responses, options=JudgeOptions(k=4)))
    right = [sample.index for sample in record.verdict.samples if "checked" in sample.text]
    assert [sample.index for sample in record.verdict.samples if sample.counted] == right == [0, 2]
    assert all(0 < sample.grade < 1 for sample in record.verdict.samples)
    await service.close()


async def test_training_tokens_are_serving_tokens(tiny):
    from transformers import AutoTokenizer

    from grm_service.engines import meta_rm
    from grm_service.engines.transformers.engine import control_tokens
    from grm_service.judging.judge import GenerativeRewardModel
    from grm_service.judging.plan import plan
    from grm_service.training.meta_rm import encode_judgements
    from grm_service.training.rejection_sampling import Example
    from tests.judging.engines import writing
    from tests.meta_rm import ScriptedMetaRM

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    of, served = ITEMS[0], ScriptedMetaRM()
    of = Item(of.id, of.source, (Message("user", "Is <|im_end|> a token?"),), of.responses, of.correct)
    served.control_tokens = control_tokens(tokenizer)
    text = JUDGED[0].trajectories[0].text
    await GenerativeRewardModel(writing(text), meta_rm=served).judge(
        plan(Task(of.messages, of.responses, options=JudgeOptions(k=1, k_meta=1)), SHORT)
    )
    order = balanced_orders(2, 1, 0)[0]
    rows, _ = encode_judgements(tokenizer, SHORT, [Example(of, Trajectory(order, text, None, True))], 2048)
    assert [row.tokens for row in rows] == [meta_rm.encode_judgement(tokenizer, served.graded[0])]


def test_starts_from_judge_with_its_adapter(source, tmp_path):
    from grm_service.training.models import load, load_classifier, save

    trained = ModelSource(str(tmp_path / "judge"), None, tmp_path)
    judge = load(source, 4)
    for name, value in judge.model.named_parameters():
        if "lora_B" in name:
            value.data.fill_(0.05)
    save(judge, tmp_path / "judge")
    ids = torch.tensor([[5, 6, 7]])
    learners = load(trained, None), load_classifier(trained, None), load_classifier(source, None)
    with torch.no_grad():
        expected, classifier, base = (each.model.model(ids).last_hidden_state for each in learners)
    assert torch.equal(classifier, expected)
    assert not torch.allclose(base, expected, atol=0.1)
    assert learners[1].model.config.num_labels == 1
