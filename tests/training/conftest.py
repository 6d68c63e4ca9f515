from dataclasses import replace
from importlib.util import find_spec

import pytest

from grm_service.engines.files.source import ModelSource
from grm_service.engines.scripted import ScriptedEngine
from grm_service.evaluation.dataset import Item
from grm_service.judging.orders import balanced_orders
from grm_service.profiles.catalog import format_fingerprint
from grm_service.profiles.profile import Sampling
from grm_service.training.rejection_sampling import Example
from grm_service.training.sampling import sample_all
from grm_service.training.trajectories import (
    Trajectory,
    TrajectoryFile,
    TrajectorySetup,
    read_trajectories,
)
from grm_service.types import Message
from tests.engines.tiny import save_model
from tests.judging.profiles import PROFILE

needs_trl = pytest.mark.skipif(
    not all(map(find_spec, ("trl", "peft", "datasets"))), reason="pip install 'grm-service[train]'"
)
# All weights (rank None) learn by the same code.
RANKS = pytest.mark.parametrize("rank", [4, pytest.param(None, marks=pytest.mark.slow)])
SHORT = replace(PROFILE, model="tiny", sampling=Sampling(k=4, max_tokens=64))


def item(number, correct=(0,), source="maths", n=2):
    responses = tuple(f"{i} and {number}, which is {i * number}" for i in range(n))
    return Item(f"{source}:{number}", source, (Message("user", f"Question {number}?"),), responses, correct)


ITEMS = [item(i, (i % 2,)) for i in range(12)]
OPENED = replace(SHORT, opening="Specific Criteria:\n1. A good response")
TEXT = OPENED.opening + " says what is so.\nAnalysis: Both do.\nScores: \\boxed{8, 3}"
EXAMPLES = [
    Example(item, Trajectory(balanced_orders(2, 1, item.seed(0))[0], TEXT, (8.0, 3.0), True))
    for item in ITEMS[:6]
]


def setup(**changed):
    return replace(
        TrajectorySetup("p", format_fingerprint(SHORT), "scripted", "scripted-content", 3, True, 0), **changed
    )


@pytest.fixture
def sampled(tmp_path):
    """Sample trajectories with the scripted judge, through a file."""

    async def sample(items=ITEMS, engine=None, **changed):
        file = tmp_path / "trajectories.jsonl"
        with TrajectoryFile(file, setup(**changed)) as out:
            await sample_all(items, out, engine or ScriptedEngine("content"), SHORT, 4)
        return read_trajectories(file)[1]

    return sample


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("tiny"), "llama", max_position_embeddings=2048)


@pytest.fixture
def source(tiny, tmp_path):
    return ModelSource(str(tiny), None, tmp_path)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Run torch on one thread, on which a tiny model is fastest."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
