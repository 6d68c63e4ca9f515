from dataclasses import replace
from importlib.util import find_spec

import pytest

from grm_service.engines.choice import Source
from grm_service.engines.scripted import ScriptedEngine
from grm_service.evaluation.dataset import Item
from grm_service.profiles.catalog import format_fingerprint
from grm_service.profiles.profile import Sampling
from grm_service.training.sampling import sample_all
from grm_service.training.trajectories import TrajectoryFile, TrajectorySetup, read
from grm_service.types import Message
from tests.engines.tiny import save_model
from tests.judging.profiles import PROFILE

needs_trl = pytest.mark.skipif(
    not all(map(find_spec, ("trl", "peft", "datasets"))), reason="pip install 'grm-service[train]'"
)
SHORT = replace(PROFILE, model="tiny", sampling=Sampling(k=4, max_tokens=64))


def item(number, correct=(0,), source="maths", n=2):
    said = tuple(f"{i} and {number}, which is {i * number}" for i in range(n))
    return Item(f"{source}:{number}", source, (Message("user", f"Question {number}?"),), said, correct)


ITEMS = [item(i, (i % 2,)) for i in range(12)]


def setup(**changed):
    return replace(
        TrajectorySetup("p", format_fingerprint(SHORT), "scripted", "scripted-content", 3, True, 0), **changed
    )


@pytest.fixture
def sampled(tmp_path):
    """What the scripted judge writes of some items, through the file."""

    async def sample(items=ITEMS, engine=None, **changed):
        file = tmp_path / "trajectories.jsonl"
        with TrajectoryFile(file, setup(**changed)) as out:
            await sample_all(items, out, engine or ScriptedEngine("content"), SHORT, 4)
        return read(file)[1]

    return sample


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("tiny"), "llama", max_position_embeddings=2048)


@pytest.fixture
def source(tiny, tmp_path):
    return Source(str(tiny), None, tmp_path)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """A tiny model is faster on one, whatever else runs."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
