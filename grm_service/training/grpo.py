"""Rule-based online RL of SPCT: TRL's GRPOTrainer with the reward of grpo_reward.py."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from grm_service.engines.rendering import Rendered
from grm_service.engines.transformers.engine import decoder, encode
from grm_service.errors import BadTask, MissingExtra
from grm_service.evaluation.dataset import Item, subset
from grm_service.factory import default_source
from grm_service.settings import load_settings
from grm_service.training.callbacks import TrainingCallback
from grm_service.training.encoding import Encoder
from grm_service.training.grpo_reward import OrderedItem, OutcomeReward, in_all_orders
from grm_service.training.inputs import input_hashes, read_items
from grm_service.training.models import (
    Learner,
    load,
    require_packages,
    trainer_arguments,
    world_size,
)
from grm_service.training.rejection_sampling import is_too_easy
from grm_service.training.runs import LOG, TrainingResult, TrainingRun
from grm_service.training.trainer_log import add_log_callback, last_value, plot_curves
from grm_service.training.trajectories import read_all

logger = logging.getLogger(__name__)
CURVES = {
    "reward": "Mean reward (+1 right, -1 wrong or unreadable)",
    "eval_right": "Right on the held-out part",
    "eval_readable": "Readable on the held-out part, without closing",
    "kl": "KL to the model at the start",
    "completions/mean_length": "Tokens of a completion",
}
"""The logged values to plot, with the titles of their panels."""


@dataclass(frozen=True, slots=True)
class GRPOConfig:
    """Hyperparameters of online RL.

    `rank` is that of the LoRA adapter; None trains all weights (use a learning rate of 1e-6). A step samples
    `group` completions of each of `groups` prompts. `beta` is the weight of the KL term, 0.002 (16B) or 0.08
    (27B) in the paper; it also preserves the output format, which has no reward. Items with prompts of more
    than `length` tokens are left out, because every row of a step is padded to its longest. The held-out
    items are measured `evaluations` times, evenly spaced.
    """

    rank: int | None = 16
    steps: int = 100
    groups: int = 8
    group: int = 4
    beta: float = 0.02
    learning_rate: float = 1e-5
    temperature: float = 1.0
    length: int = 2048
    evaluations: int = 5
    seed: int = 0
    checkpointing: bool = False

    def to_manifest(self) -> dict[str, Any]:
        """Return the fields under their names in manifest.json, where `beta` is `kl`."""
        arguments = asdict(self)
        return arguments | {"kl": arguments.pop("beta")}


def run_grpo(
    config: GRPOConfig,
    *,
    data: str | Path,
    out: str | Path,
    profile: str | Path | None = None,
    trajectories: Sequence[str | Path] = (),
    held_out: float = 0.05,
    limit: int | None = None,
    callback: TrainingCallback | None = None,
) -> TrainingResult:
    """Train the profile's model on the items with GRPO, into the folder `out`.

    Items that `trajectories` show to be right every time are left out; a share `held_out` (0..0.5) of the
    items is only measured. A run that was interrupted resumes. Raises GRMError.
    """
    require_packages()
    folder, callback = Path(out), callback or TrainingCallback()
    served, source = default_source(load_settings(profile=profile))
    items = read_items(data, limit, callback)
    items = [item for item in items if len(item.responses) <= served.most_responses]
    files = [Path(file) for file in trajectories]
    easy = {each.item for each in read_all(files) if is_too_easy(each)}
    # Easy items are held out as well: the accuracy must not depend on the trajectories.
    eval_items = subset(items, round(len(items) * held_out))
    excluded = {item.id for item in eval_items} | easy
    train_items = [item for item in items if item.id not in excluded]
    arguments = {
        **config.to_manifest(),
        "held": held_out,
        "limit": limit,
        "sha256": input_hashes(items, files),
    }
    run = TrainingRun(folder, "grpo", replace(served, model=source.model), arguments)
    learner = load(source, config.rank)
    callback.on_train_begin(
        {
            "items": len(train_items),
            "held-out items": len(eval_items),
            "items too easy": len(easy),
            "trainable parameters": learner.trainable,
        }
    )
    metrics = train_grpo(run, learner, train_items, eval_items, config)
    file = run.finish(learner, metrics, f"{served.name}, trained by online RL (GRPO).")
    try:
        plot_curves(folder / LOG, CURVES, folder / "curves.png")
    except MissingExtra as error:
        logger.warning("%s; %s has the values", error, folder / LOG)
    return TrainingResult(file, metrics)


def train_grpo(
    run: TrainingRun,
    learner: Learner,
    train_items: Sequence[Item],
    eval_items: Sequence[Item],
    config: GRPOConfig,
) -> dict[str, Any]:
    """Train the model and return the metrics for the manifest. Raises BadTask if no item is left."""
    encoder = Encoder(learner.tokenizer, run.profile, learner.eos_token_ids)
    short, short_eval = (_short_items(encoder, part, config.length) for part in (train_items, eval_items))
    train, evaluation = in_all_orders(short, config.seed), in_all_orders(short_eval, config.seed)
    too_long = len(train_items) - len(short)
    if not train:
        raise BadTask(f"there is no item to train on: {too_long} have longer prompts than --length")
    trainer = _trainer(run, learner, encoder, train, evaluation, config)
    before = trainer.evaluate() if evaluation else {}
    # Read before training, which writes newer checkpoints.
    tokens_before = run.tokens_at_checkpoint
    output = trainer.train(resume_from_checkpoint=run.last_checkpoint)
    after = trainer.evaluate() if evaluation else {}
    history, seconds = trainer.state.log_history, output.metrics["train_runtime"]
    tokens = (last_value(history, "num_tokens") or 0) - tokens_before
    return {
        "items": len(short),
        "too_long": too_long,
        "held": len(short_eval),
        "steps": trainer.state.global_step,
        "tokens": tokens,
        "tokens_per_s": round(tokens / seconds, 1),
        "seconds": round(seconds, 1),
        "reward": last_value(history, "reward"),
        "kl": last_value(history, "kl"),
        "right_before": before.get("eval_right"),
        "right_after": after.get("eval_right"),
        "readable_before": before.get("eval_readable"),
        "readable_after": after.get("eval_readable"),
    }


def _short_items(encoder: Encoder, items: Sequence[Item], max_length: int) -> list[Item]:
    """Return the items whose prompt has at most `max_length` tokens."""
    return [
        item
        for item in items
        if len(encode(encoder.tokenizer, _rendered(encoder, item, range(len(item.responses))).text))
        <= max_length
    ]


def _rendered(encoder: Encoder, item: Item, order: Sequence[int]) -> Rendered:
    return encoder.rendered(encoder.prompt(item, order))


def _prompt_text(encoder: Encoder, row: OrderedItem) -> str:
    """Return the text that TRL tokenizes to the engine's tokens. Raises BadTask if there is none."""
    tokenizer, text = encoder.tokenizer, _rendered(encoder, row.item, row.order).text
    ids = encode(tokenizer, text)
    # Some tokenizers add a BOS token that their chat template has written already.
    for candidate in (text, text.removeprefix(tokenizer.bos_token or "")):
        if tokenizer(candidate)["input_ids"] == ids:
            return str(candidate)
    raise BadTask(f"the tokenizer of {tokenizer.name_or_path} adds tokens that the engine does not use")


def _trainer(
    run: TrainingRun,
    learner: Learner,
    encoder: Encoder,
    train: Sequence[OrderedItem],
    evaluation: Sequence[OrderedItem],
    config: GRPOConfig,
) -> Any:
    import trl
    from datasets import Dataset

    rows = [*train, *evaluation]
    rendered = _rendered(encoder, rows[0].item, rows[0].order)
    arguments = trl.GRPOConfig(
        output_dir=str(run.checkpoints),
        max_steps=config.steps,
        per_device_train_batch_size=config.group,
        gradient_accumulation_steps=max(config.groups // world_size(), 1),
        num_generations=config.group,
        num_generations_eval=1,  # evaluation needs no group to compare with
        per_device_eval_batch_size=16,
        eval_strategy="steps" if evaluation else "no",
        eval_steps=max(config.steps // max(config.evaluations, 1), 1),
        max_completion_length=run.profile.sampling.max_tokens + rendered.room,
        temperature=config.temperature,
        beta=config.beta,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=0.05,
        **trainer_arguments(config.seed, config.checkpointing),
    )
    prompts = [{"prompt": _prompt_text(encoder, each), "row": index} for index, each in enumerate(rows)]
    trainer = trl.GRPOTrainer(
        model=learner.model,
        processing_class=learner.tokenizer,
        reward_funcs=OutcomeReward(
            run.profile, rows, decoder(learner.tokenizer), rendered.opened is not None
        ),
        args=arguments,
        train_dataset=Dataset.from_list(prompts[: len(train)]),
        eval_dataset=Dataset.from_list(prompts[len(train) :]) if evaluation else None,
    )
    add_log_callback(trainer, run.folder / LOG)
    return trainer
