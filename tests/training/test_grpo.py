"""Online RL: its reward on cases made by hand, and two steps on a tiny model that can write scores."""

import json
from dataclasses import replace

import pytest

from grm_service.engines.choice import Source
from grm_service.profiles.profile import Sampling
from grm_service.training.grpo import CURVES, GRPOConfig, OutcomeReward, Shown, shown
from grm_service.training.rejection_sampling import Example
from grm_service.training.trainer_log import draw
from grm_service.training.trajectories import Trajectory
from tests.training.conftest import ITEMS, SHORT, item, needs_trl

PROFILE = replace(SHORT, opening="Scores: \\boxed{", sampling=Sampling(max_tokens=8))


def rewards(*texts):
    logged, row = {}, Shown(item(1, (0,)), (1, 0))
    given = OutcomeReward(PROFILE, [row])(
        texts, row=[0] * len(texts), log_metric=logged.__setitem__, prompts=None
    )
    return given, logged


def test_a_reward_is_one_for_the_best_response_strictly_above_and_minus_one_for_anything_else():
    given, logged = rewards("3, 8}", "8, 3}", "5, 5}", "3, 11}", "3}", "I think", "")
    assert given == [1, -1, -1, -1, -1, -1, -1]
    assert logged == {"readable": pytest.approx(3 / 7), "right": pytest.approx(1 / 7)}


def test_the_reward_does_not_depend_on_the_form():
    assert rewards("3, 8} so it is")[0] == rewards("3, 8}")[0] == [1]


def test_every_item_is_shown_with_each_response_in_each_place():
    rows = shown([item(1, n=3), item(2)], seed=0)
    assert len(rows) == 5
    assert {row.order.index(0) for row in rows[:3]} == {0, 1, 2}
    assert {row.order for row in rows[3:]} == {(0, 1), (1, 0)}
    first = {shown([item(i)], 0)[0].order for i in range(9)}
    assert len(first) == 2


@pytest.fixture(scope="module")
def writes_scores(tiny, tmp_path_factory):
    """The tiny model, taught to write scores that are right half of the time."""
    from grm_service.training.models import load, save
    from grm_service.training.rft import RFTConfig, fine_tune
    from grm_service.training.runs import TrainingRun

    folder = tmp_path_factory.mktemp("scores")
    examples = [
        Example(each, Trajectory(order, f"Scores: \\boxed{{{scores}}}", None, True))
        for each in ITEMS
        for order in ((0, 1), (1, 0))
        for scores in ("8, 3", "3, 8")
    ]
    learner = load(Source(str(tiny), None, folder), None)
    run = TrainingRun(folder / "run", "rft", replace(PROFILE, model="tiny"), {})
    fine_tune(run, learner, examples, [], RFTConfig(None, 512, 2, 6, 1e-2))
    save(learner, folder / "model")
    return Source(str(folder / "model"), None, folder)


@needs_trl
@pytest.mark.filterwarnings("ignore")  # what TRL, peft and transformers say of each other
@pytest.mark.parametrize("rank", [4, None])
def test_two_steps_move_every_trainable_parameter_and_are_logged(rank, writes_scores, tmp_path):
    from grm_service.training.grpo import reinforce
    from grm_service.training.models import load
    from grm_service.training.runs import LOG, TrainingRun

    learner = load(writes_scores, rank)
    before = {n: v.detach().clone() for n, v in learner.model.named_parameters() if v.requires_grad}
    run = TrainingRun(tmp_path / "x", "grpo", replace(PROFILE, model=writes_scores.model), {})
    asked = GRPOConfig(rank, steps=3, groups=4, kl=0.1, learning_rate=1e-2, length=1024, evaluations=1)
    long = replace(ITEMS[0], id="long", responses=("11 " * 700, "12"))
    metrics = reinforce(run, learner, [*ITEMS[:8], long], ITEMS[8:], asked)
    after = dict(learner.model.named_parameters())
    assert [name for name, value in before.items() if value.equal(after[name])] == []
    assert (metrics["steps"], metrics["items"], metrics["too_long"]) == (3, 8, 1)
    assert metrics["readable_before"] > 0.5
    assert 0 < metrics["right_before"] < 1
    rows = [json.loads(line) for line in (run.folder / LOG).read_text().splitlines()]
    for name in CURVES:
        assert [row[name] for row in rows if name in row], name
    assert draw(run.folder / LOG, CURVES, run.folder / "curves.png")
    assert (run.folder / "curves.png").stat().st_size > 1000
    run.finish(learner, metrics, "Trained by a test.")
    assert (run.folder / "model.gguf").is_file()


@needs_trl
@pytest.mark.filterwarnings("ignore")
def test_an_adapter_that_was_fine_tuned_goes_on_as_the_same_adapter(tiny, tmp_path):
    from grm_service.training.models import load, save

    first = load(Source(str(tiny), None, tmp_path), 4)
    for _, value in first.model.named_parameters():
        if value.requires_grad:
            value.data.fill_(0.5)
    save(first, tmp_path / "model")
    again = load(Source(str(tmp_path / "model"), None, tmp_path), 16)
    tuned = {n: v for n, v in again.model.named_parameters() if v.requires_grad}
    assert tuned.keys() == {n for n, v in first.model.named_parameters() if v.requires_grad}
    assert all((value == 0.5).all() for value in tuned.values())
    assert again.trainable == first.trainable == 8960
