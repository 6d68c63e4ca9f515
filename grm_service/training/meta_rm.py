"""The meta RM: a classifier with one logit that learns whether a judgement is right (SPCT, section 3.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from grm_service.engines.meta_rm import encode_judgement, grade_batch
from grm_service.engines.transformers.engine import control_tokens
from grm_service.errors import BadTask
from grm_service.evaluation.dataset import Item, subset
from grm_service.evaluation.outcomes import GradedSample, measure_grading
from grm_service.factory import default_source
from grm_service.judging.prompt import render_judgement
from grm_service.profiles.profile import Profile
from grm_service.settings import load_settings
from grm_service.training.callbacks import TrainingCallback
from grm_service.training.inputs import input_hashes, read_items, require_same_format
from grm_service.training.models import (
    Learner,
    load_classifier,
    require_packages,
    save,
    trainer_arguments,
    world_size,
)
from grm_service.training.rejection_sampling import Example, match_items
from grm_service.training.runs import LOG, TrainingResult, TrainingRun
from grm_service.training.trainer_log import add_log_callback
from grm_service.training.trajectories import ItemTrajectories, read_all

FOLDER = "meta-rm"
_EVAL_BATCH = 16


@dataclass(frozen=True, slots=True)
class MetaRMConfig:
    """Hyperparameters of the meta RM.

    `rank` is that of the LoRA adapter; None trains all weights (use a learning rate of 1e-5). A step has
    `batch` judgements; those of more than `length` tokens, prompt included, are left out.
    """

    rank: int | None = 16
    length: int = 2048
    batch: int = 16
    epochs: float = 1.0
    learning_rate: float = 1e-4
    seed: int = 0
    checkpointing: bool = False


@dataclass(frozen=True, slots=True)
class LabelledJudgement:
    """A judgement as token ids, with its label."""

    tokens: list[int]
    right: bool
    item: Item


def run_meta_rm(
    config: MetaRMConfig,
    *,
    data: str | Path,
    out: str | Path,
    trajectories: Sequence[str | Path],
    profile: str | Path | None = None,
    held_out: float = 0.1,
    limit: int | None = None,
    callback: TrainingCallback | None = None,
) -> TrainingResult:
    """Train a meta RM for the profile's judge on sampled trajectories, into the folder `out`.

    It starts from the judge's weights. A share `held_out` (0..0.5) of the items is only measured. A run that
    was interrupted resumes. Raises GRMError.
    """
    require_packages()
    callback, files = callback or TrainingCallback(), [Path(file) for file in trajectories]
    served, source = default_source(load_settings(profile=profile))
    require_same_format(served, files)
    items = read_items(data, limit, callback)
    examples, skipped = select_judgements(items, read_all(files))
    callback.on_trajectories_skipped(skipped)
    train_examples, eval_examples = split(examples, held_out)
    arguments = {
        **asdict(config),
        "held": held_out,
        "limit": limit,
        "sha256": input_hashes(items, files),
    }
    run = TrainingRun(Path(out), "meta-rm", replace(served, model=source.model), arguments)
    learner = load_classifier(source, config.rank)
    callback.on_train_begin(
        {
            "judgements": len(train_examples),
            "held-out judgements": len(eval_examples),
            "trainable parameters": learner.trainable,
        }
    )
    return train_meta_rm(run, learner, train_examples, eval_examples, config)


def select_judgements(
    items: Sequence[Item], trajectories: Iterable[ItemTrajectories]
) -> tuple[list[Example], Counter[str]]:
    """Return the trajectories to learn from, right and wrong, and the number of the others, by reason.

    Only sampled trajectories count: from hinted ones and forms, which are nearly always right, it would learn
    what they look like. Unreadable ones are never graded. Raises BadTask if an item's texts have changed.
    """
    examples, skipped = list[Example](), Counter[str]()
    for item, each in match_items(items, trajectories):
        for trajectory in each.trajectories:
            reason = trajectory.error or (trajectory.origin if trajectory.origin != "sampled" else None)
            if reason is None:
                examples.append(Example(item, trajectory))
            else:
                skipped[reason] += 1
    return examples, skipped


def split(examples: Sequence[Example], held_out: float) -> tuple[list[Example], list[Example]]:
    """Return the examples to train on and those of a share (0..1) of the items; no group is in both."""
    items = list({example.item.id: example.item for example in examples}.values())
    eval_groups = {_group(item) for item in subset(items, round(len(items) * held_out))}
    parts: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        parts[_group(example.item) in eval_groups].append(example)
    return parts


def train_meta_rm(
    run: TrainingRun,
    learner: Learner,
    train_examples: Sequence[Example],
    eval_examples: Sequence[Example],
    config: MetaRMConfig,
) -> TrainingResult:
    """Train, measure on the held-out examples and write the run.

    Raises BadTask unless there are both right and wrong examples.
    """
    rows, too_long = encode_judgements(learner.tokenizer, run.profile, train_examples, config.length)
    eval_rows, _ = encode_judgements(learner.tokenizer, run.profile, eval_examples, config.length)
    if len({row.right for row in rows}) < 2:
        raise BadTask(
            f"there is nothing to learn: {len(rows)} judgements are all right or all wrong "
            f"({too_long} were too long)"
        )
    # Counted now, because a merged model has no adapter left.
    trainer, trainable = _trainer(run, learner, rows, config), learner.trainable
    tokens_before = run.tokens_at_checkpoint
    output = trainer.train(resume_from_checkpoint=run.last_checkpoint)
    merged = learner.model.merge_and_unload() if config.rank is not None else learner.model
    # One precision for all weights, as in serving.
    merged = merged.to(merged.dtype).eval()
    held_out = measure_grading(_grade(merged, eval_rows))
    tokens, seconds = trainer.state.num_input_tokens_seen - tokens_before, output.metrics["train_runtime"]
    metrics = {
        "examples": len(rows),
        "right": sum(row.right for row in rows) / len(rows),
        "too_long": too_long,
        "steps": trainer.state.global_step,
        "tokens": tokens,
        "tokens_per_s": round(tokens / seconds, 1),
        "seconds": round(seconds, 1),
        "loss": output.metrics["train_loss"],
        "held_items": len({row.item.id for row in eval_rows}),
        "held": None if held_out is None else asdict(held_out),
    }
    save(replace(learner, model=merged), run.folder / FOLDER)
    trained = replace(run.profile, meta_rm=f"./{FOLDER}")
    file = run.write_result(trained, trainable, metrics, f"{run.profile.name}, with a meta RM.")
    return TrainingResult(file, metrics)


def encode_judgements(
    tokenizer: Any, profile: Profile, examples: Iterable[Example], max_length: int
) -> tuple[list[LabelledJudgement], int]:
    """Return the judgements as the meta RM reads them in serving, and the number that were too long."""
    control, rows, too_long = control_tokens(tokenizer), list[LabelledJudgement](), 0
    for example in examples:
        item, trajectory = example.item, example.trajectory
        responses = [item.responses[i] for i in trajectory.order]
        turns = render_judgement(profile, item.messages, responses, trajectory.text, control)
        tokens = encode_judgement(tokenizer, turns)
        if len(tokens) > max_length:
            too_long += 1
        else:
            rows.append(LabelledJudgement(tokens, trajectory.right, item))
    return rows, too_long


def _group(item: Item) -> str:
    return item.group or item.id


def _grade(model: Any, rows: Sequence[LabelledJudgement]) -> list[GradedSample]:
    ordered = sorted(rows, key=lambda row: len(row.tokens))
    batches = [ordered[start : start + _EVAL_BATCH] for start in range(0, len(ordered), _EVAL_BATCH)]
    return [
        GradedSample(grade, row.right, row.item.id, _group(row.item))
        for batch in batches
        for row, grade in zip(batch, grade_batch(model, [row.tokens for row in batch]), strict=True)
    ]


def _trainer(
    run: TrainingRun, learner: Learner, rows: Sequence[LabelledJudgement], config: MetaRMConfig
) -> Any:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits
    from transformers import Trainer, TrainingArguments

    def mean_loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        """Return the loss in nats, averaged over the judgements of a step on all devices."""
        total = binary_cross_entropy_with_logits(outputs.logits[:, 0].float(), labels, reduction="sum")
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        return {name: torch.tensor([row[name] for row in batch]) for name in batch[0]}

    arguments = TrainingArguments(
        output_dir=str(run.checkpoints),
        # One judgement at a time needs no padding.
        per_device_train_batch_size=1,
        gradient_accumulation_steps=max(config.batch // world_size(), 1),
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        max_grad_norm=1.0,
        include_num_input_tokens_seen=True,
        remove_unused_columns=False,
        **trainer_arguments(config.seed, config.checkpointing),
    )
    trainer = Trainer(
        model=learner.model,
        args=arguments,
        train_dataset=[{"input_ids": row.tokens, "labels": float(row.right)} for row in rows],
        data_collator=collate,
        compute_loss_func=mean_loss,
    )
    add_log_callback(trainer, run.folder / LOG)
    return trainer
