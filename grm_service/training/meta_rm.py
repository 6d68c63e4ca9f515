"""The meta RM: one logit, by binary cross-entropy on whether a judgement is right (paper, section 3.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from grm_service.engines.meta_rm import encode, grades
from grm_service.engines.transformers.engine import control_tokens
from grm_service.errors import BadTask
from grm_service.evaluation.dataset import Item, subset
from grm_service.evaluation.outcomes import GradedSample, measure_grading
from grm_service.judging.prompt import render_judgement
from grm_service.profiles.profile import Profile
from grm_service.training.models import Learner, processes, save, trainer_arguments
from grm_service.training.rejection_sampling import Example, known
from grm_service.training.runs import LOG, TrainingRun
from grm_service.training.trainer_log import watch
from grm_service.training.trajectories import ItemTrajectories

FOLDER = "meta-rm"
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class MetaRMConfig:
    """`batch` judgements make a step; those of more than `length` tokens are left out.

    `rank` is the LoRA adapter's, None trains all.
    """

    rank: int | None = 16
    length: int = 2048
    batch: int = 16
    epochs: float = 1.0
    learning_rate: float = 1e-4
    seed: int = 0
    checkpointing: bool = False


@dataclass(frozen=True, slots=True)
class GradedRow:
    """A judgement as tokens, and whether it is right."""

    tokens: list[int]
    right: bool
    item: Item


def judgements(
    items: Sequence[Item], tried: Iterable[ItemTrajectories]
) -> tuple[list[Example], Counter[str]]:
    """What a meta RM learns from, right and wrong, and how many were left out, by reason.

    Hinted trajectories are written by a judge who knew, forms by nobody and always right: of both it would
    learn what they look like. What cannot be read is never graded. Raises BadTask for other data.
    """
    found, left_out = list[Example](), Counter[str]()
    for item, each in known(items, tried):
        for trajectory in each.trajectories:
            why = trajectory.error or (trajectory.origin if trajectory.origin != "sampled" else None)
            if why is None:
                found.append(Example(item, trajectory))
            else:
                left_out[why] += 1
    return found, left_out


def split(examples: Sequence[Example], held: float) -> tuple[list[Example], list[Example]]:
    """Those to train on, and a share (0..1) of the items only to measure on, with all of their groups."""
    items = list({example.item.id: example.item for example in examples}.values())
    apart = {_group(item) for item in subset(items, round(len(items) * held))}
    parts: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        parts[_group(example.item) in apart].append(example)
    return parts


def train(
    run: TrainingRun,
    learner: Learner,
    examples: Sequence[Example],
    held: Sequence[Example],
    asked: MetaRMConfig,
) -> tuple[Path, dict[str, Any]]:
    """Trains, measures on `held`, and writes the run; gives the profile's file and the metrics.

    Raises BadTask where the examples are not some right and some wrong.
    """
    rows, left_out = encoded(learner.tokenizer, run.profile, examples, asked.length)
    measured, _ = encoded(learner.tokenizer, run.profile, held, asked.length)
    if len({row.right for row in rows}) < 2:
        raise BadTask(
            f"there is nothing to tell apart: {len(rows)} judgements are all right or all wrong "
            f"({left_out} were too long)"
        )
    trainer, trainable = _trainer(run, learner, rows, asked), learner.trainable
    tokens_before = run.tokens_before
    ended = trainer.train(resume_from_checkpoint=run.cut_off_at)
    merged = learner.model.merge_and_unload() if asked.rank is not None else learner.model
    # What is measured is what is served: all of one precision.
    merged = merged.to(merged.dtype).eval()
    found = measure_grading(_graded(merged, measured))
    tokens, seconds = trainer.state.num_input_tokens_seen - tokens_before, ended.metrics["train_runtime"]
    metrics = {
        "examples": len(rows),
        "right": sum(row.right for row in rows) / len(rows),
        "too_long": left_out,
        "steps": trainer.state.global_step,
        "tokens": tokens,
        "tokens_per_s": round(tokens / seconds, 1),
        "seconds": round(seconds, 1),
        "loss": ended.metrics["train_loss"],
        "held_items": len({row.item.id for row in measured}),
        "held": None if found is None else asdict(found),
    }
    save(replace(learner, model=merged), run.folder / FOLDER)
    served = replace(run.profile, meta_rm=f"./{FOLDER}")
    file = run.conclude(served, trainable, metrics, f"{run.profile.name}, with a meta RM.")
    return file, metrics


def encoded(
    tokenizer: Any, profile: Profile, examples: Iterable[Example], longest: int
) -> tuple[list[GradedRow], int]:
    """As the meta RM will read them when it serves, and how many were too long."""
    control, found, too_long = control_tokens(tokenizer), list[GradedRow](), 0
    for example in examples:
        item, trajectory = example.item, example.trajectory
        shown = [item.responses[i] for i in trajectory.order]
        tokens = encode(tokenizer, render_judgement(profile, item.messages, shown, trajectory.text, control))
        if len(tokens) > longest:
            too_long += 1
        else:
            found.append(GradedRow(tokens, trajectory.right, item))
    return found, too_long


def _group(item: Item) -> str:
    return item.group or item.id


def _graded(model: Any, rows: Sequence[GradedRow]) -> list[GradedSample]:
    ordered = sorted(rows, key=lambda row: len(row.tokens))
    batches = [ordered[start : start + _AT_ONCE] for start in range(0, len(ordered), _AT_ONCE)]
    return [
        GradedSample(grade, row.right, row.item.id, _group(row.item))
        for batch in batches
        for row, grade in zip(batch, grades(model, [row.tokens for row in batch]), strict=True)
    ]


def _trainer(run: TrainingRun, learner: Learner, rows: Sequence[GradedRow], asked: MetaRMConfig) -> Any:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits
    from transformers import Trainer, TrainingArguments

    def entropy(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        """In nats, the mean over a step's judgements, on however many devices and rows at a time."""
        total = binary_cross_entropy_with_logits(outputs.logits[:, 0].float(), labels, reduction="sum")
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    def alone(batch: list[dict[str, Any]]) -> dict[str, Any]:
        return {name: torch.tensor([row[name] for row in batch]) for name in batch[0]}

    config = TrainingArguments(
        output_dir=str(run.checkpoints),
        # One at a time nothing is padded.
        per_device_train_batch_size=1,
        gradient_accumulation_steps=max(asked.batch // processes(), 1),
        num_train_epochs=asked.epochs,
        learning_rate=asked.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        max_grad_norm=1.0,
        include_num_input_tokens_seen=True,
        remove_unused_columns=False,
        **trainer_arguments(asked.seed, asked.checkpointing),
    )
    trainer = Trainer(
        model=learner.model,
        args=config,
        train_dataset=[{"input_ids": row.tokens, "labels": float(row.right)} for row in rows],
        data_collator=alone,
        compute_loss_func=entropy,
    )
    watch(trainer, run.folder / LOG)
    return trainer
