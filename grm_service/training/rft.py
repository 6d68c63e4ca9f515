"""Rejective fine-tuning (SPCT, section 3.1): TRL's SFTTrainer on trajectories that judge right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from grm_service.errors import BadTask
from grm_service.factory import default_source
from grm_service.row_values import Turns
from grm_service.settings import EngineName, load_settings
from grm_service.training.callbacks import TrainingCallback
from grm_service.training.encoding import Encoder, Tokens, encode_all
from grm_service.training.inputs import input_hashes, read_items, require_same_format
from grm_service.training.instruction_data import draw_share, read_instructions
from grm_service.training.models import (
    Learner,
    load,
    require_packages,
    trainer_arguments,
    world_size,
)
from grm_service.training.rejection_sampling import Example, select
from grm_service.training.runs import LOG, TrainingResult, TrainingRun
from grm_service.training.sampling import SamplingConfig, sample_items
from grm_service.training.trainer_log import add_log_callback, last_value
from grm_service.training.trajectories import read_all
from grm_service.types import JudgeOptions


@dataclass(frozen=True, slots=True)
class RFTConfig:
    """Hyperparameters of rejective fine-tuning.

    `rank` is that of the LoRA adapter; None trains all weights (use a learning rate of 2e-5). `layers`: the
    adapter is on the last ones only, None: on all; half of them save a quarter of the time. `length` is the
    tokens of a packed row and the maximum of one example; `batch` rows make a step. With `only_scores` the
    loss is on the scores only, for a model that writes the output format already: in a long critique they are
    so small a part of the loss that a small model learns to write and not to judge.
    """

    rank: int | None = 16
    length: int = 1024
    batch: int = 8
    epochs: float = 1.0
    learning_rate: float = 2e-4
    seed: int = 0
    checkpointing: bool = False
    only_scores: bool = False
    layers: int | None = None


def run_rft(
    config: RFTConfig,
    *,
    data: str | Path,
    out: str | Path,
    profile: str | Path | None = None,
    engine: EngineName | None = None,
    trajectories: Sequence[str | Path] = (),
    sampling: SamplingConfig | None = None,
    from_base: bool = False,
    keep_easy: bool = False,
    general: str | Path | None = None,
    general_share: float = 0.5,
    limit: int | None = None,
    callback: TrainingCallback | None = None,
) -> TrainingResult:
    """Fine-tune the profile's model on right trajectories of the items, into the folder `out`.

    Without `trajectories` they are first sampled into the folder, with `engine` and the `sampling` options.
    `from_base` starts from the model without the profile's adapter, `keep_easy` is that of
    `rejection_sampling.select`, and `general` is a file of instructions that become `general_share` (0..1) of
    the examples. A run that was interrupted resumes. Raises GRMError.
    """
    require_packages()
    folder, callback = Path(out), callback or TrainingCallback()
    settings = load_settings(profile=profile, engine=engine)
    served, source = default_source(settings)
    items = read_items(data, limit, callback)
    files = [Path(file) for file in trajectories] or [folder / "trajectories.jsonl"]
    if not trajectories:
        sampling = sampling or SamplingConfig(options=JudgeOptions(seed=config.seed))
        sample_items(sampling, items, files[0], settings, callback)
    require_same_format(served, files)
    selection = select(items, read_all(files), keep_easy, config.seed)
    callback.on_trajectories_selected(selection)
    instructions = read_instructions(Path(general)) if general else []
    # A share of all examples, so it depends on how many were selected.
    instructions = draw_share(instructions, general_share, len(selection.examples), config.seed)
    arguments = {
        **asdict(config),
        "from_base": from_base,
        "keep_easy": keep_easy,
        "limit": limit,
        "general": len(instructions),
        "sha256": input_hashes(items, files, general),
    }
    run = TrainingRun(folder, "rft", replace(served, model=source.model), arguments)
    learner = load(replace(source, adapter=None) if from_base else source, config.rank, config.layers)
    callback.on_train_begin(
        {
            "examples": len(selection.examples),
            "instructions": len(instructions),
            "trainable parameters": learner.trainable,
        }
    )
    metrics = train_rft(run, learner, selection.examples, instructions, config)
    metrics["rates"] = {name: dict(count) for name, count in selection.rates.items()}
    file = run.finish(learner, metrics, f"{served.name}, trained by rejective fine-tuning.")
    return TrainingResult(file, metrics)


def train_rft(
    run: TrainingRun,
    learner: Learner,
    examples: Sequence[Example],
    instructions: Sequence[Turns],
    config: RFTConfig,
) -> dict[str, Any]:
    """Train the model and return the metrics for the manifest. Raises BadTask if no example is left."""
    encoder = Encoder(learner.tokenizer, run.profile, learner.eos_token_ids, config.only_scores)
    rows, left_out = encode_all(encoder, examples, instructions, config.length, config.seed)
    if not rows:
        raise BadTask(
            f"there is nothing to learn: of {len(examples)} examples, {dict(left_out)} were left out"
        )
    trainer = sft_trainer(run, learner, rows, config)
    output = trainer.train(resume_from_checkpoint=run.last_checkpoint)
    seconds = output.metrics["train_runtime"]
    tokens = last_value(trainer.state.log_history, "num_tokens")
    return {
        "examples": len(rows),
        "left_out": dict(left_out),
        "steps": trainer.state.global_step,
        "tokens": tokens,
        "tokens_per_s": None if tokens is None else round(tokens / seconds, 1),
        "seconds": round(seconds, 1),
        "loss": output.metrics["train_loss"],
    }


def sft_trainer(run: TrainingRun, learner: Learner, rows: Sequence[Tokens], config: RFTConfig) -> Any:
    """Return TRL's trainer on tokenized rows, which it packs without a chat template of its own."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(
        output_dir=str(run.checkpoints),
        max_length=config.length,
        packing=True,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=max(config.batch // world_size(), 1),
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        max_grad_norm=1.0,
        **trainer_arguments(config.seed, config.checkpointing),
    )
    trainer = SFTTrainer(
        model=learner.model,
        processing_class=learner.tokenizer,
        args=arguments,
        train_dataset=Dataset.from_list([tokens.row for tokens in rows]),
    )
    add_log_callback(trainer, run.folder / LOG)
    return trainer
