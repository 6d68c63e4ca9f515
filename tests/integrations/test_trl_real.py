"""TRL's GRPOTrainer with rewards from a real service: only rewards update the policy, failures do not."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # TRL, peft and transformers warn about each other
    pytest.mark.skipif(
        not all(map(find_spec, ("trl", "peft", "datasets"))), reason="pip install 'grm-service[train]'"
    ),
]
EXAMPLE = Path("examples/trl_grpo.py")
QUERY, FAILS = "Name 3 primes.", "please garbage"


@pytest.mark.slow
def test_example_trains_for_two_steps():
    command = [sys.executable, EXAMPLE, "--steps", "2", "--engine", "scripted"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        printed, _ = process.communicate(timeout=280)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, printed
    steps = re.findall(r"step (\d): reward mean ([\d.]+), 0 of 8 without a reward", printed)
    assert [step for step, _ in steps] == ["1", "2"], printed
    assert all(1 <= float(mean) <= 10 for _, mean in steps)
    moved, trained = map(int, re.search(r"(\d+) of (\d+) trained tensors moved", printed).groups())
    assert moved == trained > 0


@pytest.fixture
def train(tmp_path):
    """Train a tiny policy for one step; return TRL's log entry and the number of tensors that changed."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    from grm_service.integrations.common import service
    from grm_service.integrations.trl import grm_reward
    from tests.engines.tiny import save_model

    folder = save_model(tmp_path / "policy", "llama")

    def _train(*queries):
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder),
            processing_class=AutoTokenizer.from_pretrained(folder),
            reward_funcs=grm_reward,
            train_dataset=Dataset.from_list([{"prompt": query} for query in queries]),
            args=GRPOConfig(
                output_dir=tmp_path / "run",
                max_steps=1,
                per_device_train_batch_size=8,
                num_generations=4,
                max_completion_length=8,
                logging_steps=1,
                use_cpu=True,
                bf16=False,
                report_to="none",
                save_strategy="no",
                seed=0,
            ),
        )
        before = [value.detach().clone() for value in trainer.model.parameters()]
        trainer.train()
        # TRL's event loop runs until the process ends: close its connections here.
        asyncio.run_coroutine_threadsafe(service().close(), trainer.async_loop).result()
        after = trainer.model.parameters()
        moved = sum(not old.equal(new) for old, new in zip(before, after, strict=True))
        return trainer.state.log_history[0], moved

    return _train


@pytest.mark.usefixtures("configured")
def test_step_survives_a_failed_group(train):
    logged, moved = train(QUERY, FAILS)
    assert logged["grm/failed"] == 0.5
    assert 1 <= logged["rewards/grm_reward/mean"] <= 10
    assert moved


@pytest.mark.usefixtures("configured")
def test_step_without_rewards_changes_nothing(train):
    logged, moved = train(FAILS, f"{FAILS} again")
    assert logged["grm/failed"] == 1
    assert logged["rewards/grm_reward/mean"] is None, "a failure is not a reward"
    assert not moved
