"""Online RL: a few steps on a tiny model that can write scores."""

import json
from dataclasses import replace

import pytest

from grm_service.engines.files.source import ModelSource
from grm_service.training.grpo import CURVES, GRPOConfig, train_grpo
from grm_service.training.rejection_sampling import Example
from grm_service.training.trainer_log import plot_curves
from grm_service.training.trajectories import Trajectory
from tests.training.conftest import ITEMS, RANKS, needs_trl
from tests.training.test_grpo_reward import PROFILE


@pytest.fixture(scope="module")
def writes_scores(tiny, tmp_path_factory):
    """Return the tiny model after fine-tuning on scores that are right half of the time."""
    from grm_service.training.models import load, save
    from grm_service.training.rft import RFTConfig, train_rft
    from grm_service.training.runs import TrainingRun

    folder = tmp_path_factory.mktemp("scores")
    examples = [
        Example(each, Trajectory(order, f"Scores: \\boxed{{{scores}}}", None, True))
        for each in ITEMS
        for order in ((0, 1), (1, 0))
        for scores in ("8, 3", "3, 8")
    ]
    learner = load(ModelSource(str(tiny), None, folder), None)
    run = TrainingRun(folder / "run", "rft", replace(PROFILE, model="tiny"), {})
    train_rft(run, learner, examples, [], RFTConfig(None, 512, 2, 6, 1e-2))
    save(learner, folder / "model")
    return ModelSource(str(folder / "model"), None, folder)


@needs_trl
@pytest.mark.filterwarnings("ignore")  # deprecations that TRL, peft and transformers cause each other
@RANKS
def test_steps_move_every_parameter(rank, writes_scores, tmp_path):
    from grm_service.training.models import load
    from grm_service.training.runs import LOG, TrainingRun

    learner = load(writes_scores, rank)
    before = {n: v.detach().clone() for n, v in learner.model.named_parameters() if v.requires_grad}
    run = TrainingRun(tmp_path / "x", "grpo", replace(PROFILE, model=writes_scores.model), {})
    config = GRPOConfig(rank, steps=3, groups=4, beta=0.1, learning_rate=1e-2, length=1024, evaluations=1)
    long = replace(ITEMS[0], id="long", responses=("11 " * 700, "12"))
    metrics = train_grpo(run, learner, [*ITEMS[:8], long], ITEMS[8:], config)
    after = dict(learner.model.named_parameters())
    assert [name for name, value in before.items() if value.equal(after[name])] == []
    assert (metrics["steps"], metrics["items"], metrics["too_long"]) == (3, 8, 1)
    assert metrics["readable_before"] > 0.5
    assert 0 < metrics["right_before"] < 1
    rows = [json.loads(line) for line in (run.folder / LOG).read_text().splitlines()]
    for name in CURVES:
        assert [row[name] for row in rows if name in row], name
    assert plot_curves(run.folder / LOG, CURVES, run.folder / "curves.png")
    assert (run.folder / "curves.png").stat().st_size > 1000
    run.finish(learner, metrics, "Trained by a test.")
    assert (run.folder / "model.gguf").is_file()


@needs_trl
@pytest.mark.filterwarnings("ignore")
def test_adapter_is_trained_further(tiny, tmp_path):
    from grm_service.training.models import load, save

    first = load(ModelSource(str(tiny), None, tmp_path), 4)
    for _, value in first.model.named_parameters():
        if value.requires_grad:
            value.data.fill_(0.5)
    save(first, tmp_path / "model")
    again = load(ModelSource(str(tmp_path / "model"), None, tmp_path), 16)
    tuned = {n: v for n, v in again.model.named_parameters() if v.requires_grad}
    assert tuned.keys() == {n for n, v in first.model.named_parameters() if v.requires_grad}
    assert all((value == 0.5).all() for value in tuned.values())
    assert again.trainable == first.trainable == 8960


def test_manifest_records_beta_as_kl():
    """Runs that were begun before the field was renamed can be resumed."""
    assert GRPOConfig(beta=0.5).to_manifest()["kl"] == 0.5
    assert set(GRPOConfig().to_manifest()) == {
        "rank",
        "steps",
        "groups",
        "group",
        "kl",
        "learning_rate",
        "temperature",
        "length",
        "evaluations",
        "seed",
        "checkpointing",
    }
