"""GRPO with rewards from the service: trains SmolLM2-135M for a few steps, on a CPU.

    pip install 'grm-service[cpu,local,train]'
    python examples/trl_grpo.py [--steps 4] [--engine scripted]

Starts `grm serve` on loopback, trains with TRL's GRPOTrainer and rewards from the service (all completions of
a prompt in one judgement), prints the mean reward of each step and the number of completions without a
reward, and stops the server.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, ProgressCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from grm_service.client import AsyncClient
from grm_service.engines.files.weights import ensure_safetensors
from grm_service.integrations.trl import GRMReward
from grm_service.profiles.catalog import load_catalog
from grm_service.settings import Settings

PROMPTS = [
    "Explain in one sentence why the sky is blue.",
    "Name three uses of a brick.",
    "How do I boil an egg?",
    "What is the capital of Australia?",
]
_COMPLETIONS = 8  # per step
_SERVING = re.compile(r"serving on (http://[\d.:]+)")


@contextlib.contextmanager
def served(engine: str) -> Iterator[str]:
    """Yield the address of a temporary service whose audit trail is deleted at the end."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "grm_service", "serve", "--port", "0", "--engine", engine]
        log = Path(folder, "service.log")
        trail = {
            "GRM_AUDIT_URL": f"sqlite:///{folder}/audit.db",
            "GRM_AUDIT_KEY_FILE": f"{folder}/audit.key",
        }
        environment = {**os.environ, **trail}
        with log.open("w") as log_file:
            process = subprocess.Popen(command, stderr=log_file, env=environment)
        try:
            while not (match := _SERVING.search(log.read_text())):
                if process.poll() is not None:
                    sys.exit(f"the service did not start:\n{log.read_text()}")
                time.sleep(0.2)
            yield match[1]
        finally:
            process.terminate()
            process.wait(60)


class PrintStep(TrainerCallback):
    """Prints the reward of each step."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "reward" in logs:
            mean = "none" if logs["reward"] is None else f"{logs['reward']:.3f}"
            failed = round(logs["grm/failed"] * _COMPLETIONS)
            print(
                f"step {state.global_step}: reward mean {mean}, {failed} of {_COMPLETIONS} without a reward",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--engine", default="auto", help="inference engine of the judge; scripted is instant")
    parser.add_argument("--k", type=int, default=2, help="samples per judgement")
    args = parser.parse_args()
    settings = Settings()
    gguf = load_catalog().profile(settings.profile).gguf
    assert gguf is not None
    folder: Path = ensure_safetensors(gguf, settings.cache_dir)
    with served(args.engine) as url, tempfile.TemporaryDirectory() as output:
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
            processing_class=AutoTokenizer.from_pretrained(folder),
            reward_funcs=GRMReward(AsyncClient(url), {"k": args.k, "max_tokens": 64}),
            train_dataset=Dataset.from_list(
                [{"prompt": [{"role": "user", "content": text}]} for text in PROMPTS]
            ),
            peft_config=LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"),
            args=GRPOConfig(
                output_dir=output,
                max_steps=args.steps,
                per_device_train_batch_size=_COMPLETIONS,
                num_generations=4,
                max_completion_length=32,
                learning_rate=1e-4,
                logging_steps=1,
                use_cpu=True,
                bf16=False,
                report_to="none",
                save_strategy="no",
                seed=0,
            ),
            callbacks=[PrintStep()],
        )
        trainer.remove_callback(ProgressCallback)  # would print all of TRL's metrics
        before = {name: value.detach().clone() for name, value in _trainable(trainer.model)}
        trainer.train()
        moved = sum(not value.equal(before[name]) for name, value in _trainable(trainer.model))
        print(f"{moved} of {len(before)} trained tensors moved")


def _trainable(model: Any) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in model.named_parameters() if value.requires_grad]


if __name__ == "__main__":
    main()
