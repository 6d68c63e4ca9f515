"""Rejective fine-tuning: TRL's SFTTrainer on trajectories that were right, packed, on completions only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grm_service.errors import BadTask
from grm_service.training.encoding import Encoder, Tokens, dataset
from grm_service.training.instruction_data import Turns
from grm_service.training.models import Learner, processes, trainer_arguments
from grm_service.training.rejection_sampling import Example
from grm_service.training.runs import LOG, TrainingRun
from grm_service.training.trainer_log import last, watch


@dataclass(frozen=True, slots=True)
class RFTConfig:
    """`length` is that of a packed row in tokens and the most of an example, `batch` rows make a step.

    `rank` is the LoRA adapter's, None trains all. `only_scores` is for a model that has the form already: of
    a long critique the scores are so small a part of the loss that a small model learns to write and not to
    judge.
    """

    rank: int | None = 16
    length: int = 1024
    batch: int = 8
    epochs: float = 1.0
    learning_rate: float = 2e-4
    seed: int = 0
    checkpointing: bool = False
    only_scores: bool = False


def fine_tune(
    run: TrainingRun,
    learner: Learner,
    examples: Sequence[Example],
    general: Sequence[Turns],
    asked: RFTConfig,
) -> dict[str, Any]:
    """Trains, and gives what the manifest tells of it. Raises BadTask where nothing is left to learn."""
    encoder = Encoder(learner.tokenizer, run.profile, learner.ends, asked.only_scores)
    rows, left_out = dataset(encoder, examples, general, asked.length, asked.seed)
    if not rows:
        raise BadTask(
            f"there is nothing to learn: of {len(examples)} examples, {dict(left_out)} were left out"
        )
    training = trainer(run, learner, rows, asked)
    ended = training.train(resume_from_checkpoint=run.cut_off_at)
    seconds = ended.metrics["train_runtime"]
    tokens = last(training.state.log_history, "num_tokens")
    return {
        "examples": len(rows),
        "left_out": dict(left_out),
        "steps": training.state.global_step,
        "tokens": tokens,
        "tokens_per_s": None if tokens is None else round(tokens / seconds, 1),
        "seconds": round(seconds, 1),
        "loss": ended.metrics["train_loss"],
    }


def trainer(run: TrainingRun, learner: Learner, rows: Sequence[Tokens], asked: RFTConfig) -> Any:
    """TRL's, on rows that are tokens already, so that it has nothing of its own to add."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    config = SFTConfig(
        output_dir=str(run.checkpoints),
        max_length=asked.length,
        packing=True,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=max(asked.batch // processes(), 1),
        num_train_epochs=asked.epochs,
        learning_rate=asked.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        max_grad_norm=1.0,
        **trainer_arguments(asked.seed, asked.checkpointing),
    )
    made = SFTTrainer(
        model=learner.model,
        processing_class=learner.tokenizer,
        args=config,
        train_dataset=Dataset.from_list([tokens.row for tokens in rows]),
    )
    watch(made, run.folder / LOG)
    return made
