"""The meta RM: what it learns from, that it learns, and that what was trained is served and votes."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from grm_service.engines.choice import Source
from grm_service.errors import BadTask
from grm_service.evaluation.dataset import Item
from grm_service.factory import open_service
from grm_service.judging.orders import balanced_orders
from grm_service.profiles.catalog import load_profile
from grm_service.settings import Settings
from grm_service.training.meta_rm import MetaRMConfig, judgements, split
from grm_service.training.trajectories import ItemTrajectories, Trajectory
from grm_service.types import Completion, JudgeOptions, Message, Task, Usage
from tests.training.conftest import SHORT, item, needs_trl

pytestmark = [
    pytest.mark.anyio,
    needs_trl,
    pytest.mark.filterwarnings("ignore"),  # what TRL, peft and transformers say of each other
]
ITEMS = [item(i, (i % 2,)) for i in range(20)]


def tried(of):
    """One right and one wrong judgement, which say so in so many words."""
    made = []
    for right, order in zip((True, False), balanced_orders(2, 2, of.seed(0)), strict=True):
        best = of.correct[0] if right else 1 - of.correct[0]
        shown = ", ".join("8" if i == best else "3" for i in order)
        words = "I have checked each step." if right else "One looks longer, so it wins."
        text = f"Specific Criteria:\n1. Is it right?\nAnalysis: {words}\nScores: \\boxed{{{shown}}}"
        scores = tuple(8.0 if i == best else 3.0 for i in range(2))
        made.append(Trajectory(order, text, scores, right))
    return ItemTrajectories.of(of, tuple(made))


TRIED = [tried(each) for each in ITEMS]


@pytest.fixture
def train(source, tmp_path):
    """Trains one on the tiny model; gives the learner, the run's folder and its manifest."""
    from grm_service.training.meta_rm import train
    from grm_service.training.models import load_classifier
    from grm_service.training.runs import TrainingRun

    def made(rank=4, source=source, folder="x", found=TRIED, held=0.25, **asked):
        learner = load_classifier(source, rank)
        before = {n: v.detach().clone() for n, v in learner.model.named_parameters() if v.requires_grad}
        run = TrainingRun(tmp_path / folder, "meta-rm", replace(SHORT, model=source.model), {"rank": rank})
        examples, _ = judgements(ITEMS, found)
        given = {"rank": rank, "batch": 4, "epochs": 4, "learning_rate": 1e-2} | asked
        file, _ = train(run, learner, *split(examples, held), MetaRMConfig(**given))
        return SimpleNamespace(
            learner=learner,
            before=before,
            folder=run.folder,
            file=file,
            manifest=json.loads((run.folder / "manifest.json").read_text()),
        )

    return made


def moved(made):
    """Names of what trains and stayed where it was; a merged model has no adapter any more."""
    after = dict(made.learner.model.named_parameters())
    return [name for name, value in made.before.items() if value.equal(after[name])]


def test_every_trainable_parameter_moves_and_right_is_told_from_wrong(train):
    made = train(None)
    assert moved(made) == []
    losses = [json.loads(line).get("loss") for line in (made.folder / "log.jsonl").read_text().splitlines()]
    losses = [loss for loss in losses if loss is not None]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-3), "in nats, of one judgement at an even chance"
    assert losses[-1] < 0.2
    metrics = made.manifest["metrics"]
    assert (metrics["examples"], metrics["right"], metrics["held_items"]) == (30, 0.5, 5)
    assert metrics["steps"] == 32
    assert metrics["held"]["auc"]["value"] == metrics["held"]["within"]["value"] == 1.0
    assert metrics["held"]["n"] == 10
    assert metrics["tokens"] > 10_000
    assert metrics["tokens_per_s"] > 0
    assert made.manifest["peak_memory_bytes"] > 2**20
    assert made.manifest["trainable"] == 109376 + 64
    assert not (made.folder / "checkpoints").exists()


def test_an_adapter_moves_with_the_head_and_is_merged(train, monkeypatch):
    from peft.tuners.lora import LoraModel

    states, whole = [], LoraModel.merge_and_unload

    def watched(self, *args, **kwargs):
        states.append({f"base_model.{n}": v.detach().clone() for n, v in self.named_parameters()})
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(LoraModel, "merge_and_unload", watched)
    made = train(4)
    (after,) = states
    assert [name for name, value in made.before.items() if value.equal(after[name])] == []
    assert any("score" in name for name in made.before)
    assert {value.dtype for value in made.before.values()} == {torch.float32}
    assert made.manifest["metrics"]["held"]["auc"]["value"] > 0.9
    assert not (made.folder / "meta-rm/adapter_config.json").exists()


def test_hinted_unreadable_and_filled_in_trajectories_are_left_out():
    of = ITEMS[0]
    sampled = TRIED[0].trajectories
    others = (
        replace(sampled[0], origin="hinted"),
        replace(sampled[0], origin="form"),
        replace(sampled[1], scores=None, error="no_scores"),
    )
    found, left_out = judgements(ITEMS, [ItemTrajectories.of(of, (*sampled, *others))])
    assert [example.trajectory for example in found] == list(sampled)
    assert left_out == {"hinted": 1, "form": 1, "no_scores": 1}
    with pytest.raises(BadTask, match="has other texts now"):
        judgements([replace(of, responses=("other", "texts"))], TRIED)


def test_no_item_and_no_group_is_in_both_parts():
    items = [replace(each, group=f"g{i // 2}") for i, each in enumerate(ITEMS)]
    examples, _ = judgements(items, TRIED)
    for held in (0, 0.1, 0.25, 0.5):
        learnt, measured = split(examples, held)
        assert len(learnt) + len(measured) == 40
        assert len({each.item.id for each in measured}) >= round(20 * held)
        groups = [{each.item.group for each in part} for part in (learnt, measured)]
        assert groups[0] & groups[1] == set()
    assert split(examples, 0)[1] == []


def test_where_all_are_right_there_is_nothing_to_learn(train):
    right = [replace(each, trajectories=each.trajectories[:1]) for each in TRIED]
    with pytest.raises(BadTask, match="15 judgements are all right or all wrong"):
        train(found=right)
    with pytest.raises(BadTask, match=r"0 judgements .*30 were too long"):
        train(folder="y", length=20)


async def test_the_profile_of_a_run_serves_it_and_the_better_half_is_voted(train, tmp_path):
    made = train(4)
    profile = load_profile(made.file)
    assert (profile.name, profile.meta_rm) == ("x", str(made.folder / "meta-rm"))
    assert profile.model == made.learner.files
    audit = {"audit_url": f"sqlite:///{tmp_path}/a.db", "audit_key_file": tmp_path / "a.key"}
    service = open_service(Settings(profile=str(made.file), engine="transformers", **audit))
    texts = iter([each.text for each in TRIED[0].trajectories] * 2)

    async def start():
        pass

    async def complete(prompt, params):
        return Completion(next(texts), "stop", Usage())

    # The judge is written by hand; the meta RM is the one that was trained, in its own process.
    service.engine.start, service.engine.complete = start, complete
    service.engine._up.set()
    await service.start()
    record = await service.judge(Task(ITEMS[0].messages, ITEMS[0].responses, options=JudgeOptions(k=4)))
    right = [sample.index for sample in record.verdict.samples if "checked" in sample.text]
    assert [sample.index for sample in record.verdict.samples if sample.counted] == right == [0, 2]
    assert all(0 < sample.grade < 1 for sample in record.verdict.samples)
    await service.close()


async def test_what_is_graded_when_it_serves_is_what_was_trained(tiny):
    from transformers import AutoTokenizer

    from grm_service.engines import meta_rm
    from grm_service.engines.transformers.engine import control_tokens
    from grm_service.judging.judge import GenerativeRewardModel
    from grm_service.judging.plan import plan
    from grm_service.training.meta_rm import encoded
    from grm_service.training.rejection_sampling import Example
    from tests.judging.engines import writing
    from tests.meta_rm import ScriptedMetaRM

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    of, served = ITEMS[0], ScriptedMetaRM()
    of = Item(of.id, of.source, (Message("user", "Is <|im_end|> a token?"),), of.responses, of.correct)
    served.control_tokens = control_tokens(tokenizer)
    text = TRIED[0].trajectories[0].text
    await GenerativeRewardModel(writing(text), meta_rm=served).judge(
        plan(Task(of.messages, of.responses, options=JudgeOptions(k=1, k_meta=1)), SHORT)
    )
    order = balanced_orders(2, 1, 0)[0]
    rows, _ = encoded(tokenizer, SHORT, [Example(of, Trajectory(order, text, None, True))], 2048)
    assert [row.tokens for row in rows] == [meta_rm.encode(tokenizer, served.graded[0])]


def test_a_judge_that_is_an_adapter_is_begun_from_with_its_adapter_in(source, tmp_path):
    from grm_service.training.models import load, load_classifier, save

    trained = Source(str(tmp_path / "judge"), None, tmp_path)
    judge = load(source, 4)
    for name, value in judge.model.named_parameters():
        if "lora_B" in name:
            value.data.fill_(0.05)
    save(judge, tmp_path / "judge")
    ids = torch.tensor([[5, 6, 7]])
    made = load(trained, None), load_classifier(trained, None), load_classifier(source, None)
    with torch.no_grad():
        wanted, found, base = (each.model.model(ids).last_hidden_state for each in made)
    assert torch.equal(found, wanted)
    assert not torch.allclose(base, wanted, atol=0.1)
    assert made[1].model.config.num_labels == 1
