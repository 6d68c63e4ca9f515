"""Rule-based online RL: TRL's GRPOTrainer, with +1 for a right judgement and -1 for any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from grm_service.engines.transformers.engine import encode, templated
from grm_service.errors import BadTask
from grm_service.evaluation.dataset import Item
from grm_service.judging import parse
from grm_service.judging.orders import balanced_orders, undo
from grm_service.profiles.profile import Profile
from grm_service.training.encoding import Encoder
from grm_service.training.models import Learner, processes, trainer_arguments
from grm_service.training.runs import LOG, TrainingRun
from grm_service.training.sampling import right
from grm_service.training.trainer_log import last, watch

CURVES = {
    "reward": "Mean reward (+1 right, -1 wrong or unreadable)",
    "eval_right": "Right on the held-out part",
    "eval_readable": "Readable on the held-out part, without closing",
    "kl": "KL to the model at the start",
    "completions/mean_length": "Tokens of a completion",
}
"""What is drawn of the log, with its titles."""


@dataclass(frozen=True, slots=True)
class GRPOConfig:
    """`groups` of `group` completions make a step; `kl` is the paper's beta: 0.002 (16B) or 0.08 (27B), and
    keeps the form as well, which has no reward of its own. `evaluations` of the held-out part, spread evenly.
    Items whose prompt has more than `length` tokens are left out: a step pays for its longest in every row.
    """

    rank: int | None = 16
    steps: int = 100
    groups: int = 8
    group: int = 4
    kl: float = 0.02
    learning_rate: float = 1e-5
    temperature: float = 1.0
    length: int = 2048
    evaluations: int = 5
    seed: int = 0
    checkpointing: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """An item as it is shown in one of its orders."""

    item: Item
    order: tuple[int, ...]


def shown(items: Sequence[Item], seed: int) -> list[Shown]:
    """Every item in all its balanced orders: each response stands in every place once."""
    return [
        Shown(item, order)
        for item in items
        for order in balanced_orders(len(item.responses), len(item.responses), item.seed(seed))
    ]


def fitting(encoder: Encoder, items: Sequence[Item], length: int) -> list[Item]:
    """Those whose prompt has at most so many tokens."""
    return [
        item
        for item in items
        if len(encode(encoder.tokenizer, encoder.prompt(item, range(len(item.responses))))) <= length
    ]


class OutcomeReward:
    """The reward of completions, by the outcome alone; as TRL calls it, `row` says which prompt it was."""

    __name__ = "outcome"

    def __init__(self, profile: Profile, rows: Sequence[Shown]) -> None:
        self._profile, self._rows = profile, rows

    def __call__(
        self, completions: Sequence[str], row: Sequence[int], log_metric: Any, **_: Any
    ) -> list[float]:
        """+1 or -1 for each. What cannot be read is wrong: there is no other reward for the form."""
        outcomes = [self.outcome(text, self._rows[i]) for text, i in zip(completions, row, strict=True)]
        log_metric("readable", fmean(each is not None for each in outcomes))
        log_metric("right", fmean(each is True for each in outcomes))
        return [1.0 if each else -1.0 for each in outcomes]

    def outcome(self, text: str, row: Shown) -> bool | None:
        """Whether the text behind the opening judges right; None where it cannot be read."""
        n = len(row.order)
        try:
            critique = parse.parse(self._profile.opening + text, n, self._profile)
        except parse.Unreadable:
            return None
        return right(undo(row.order, critique.scores, n), row.item)


def reinforce(
    run: TrainingRun, learner: Learner, items: Sequence[Item], held: Sequence[Item], asked: GRPOConfig
) -> dict[str, Any]:
    """Trains on the items, and gives what the manifest tells of it; `held` ones only measure."""
    encoder = Encoder(learner.tokenizer, run.profile, learner.ends)
    kept, held = (fitting(encoder, part, asked.length) for part in (items, held))
    train, measured = shown(kept, asked.seed), shown(held, asked.seed)
    if not train:
        raise BadTask(
            f"there is no item to train on: {len(items) - len(kept)} have longer prompts than --length"
        )
    trainer = _trainer(run, learner, encoder, train, measured, asked)
    before = trainer.evaluate() if measured else {}
    tokens_before = run.tokens_before
    ended = trainer.train(resume_from_checkpoint=run.cut_off_at)
    after = trainer.evaluate() if measured else {}
    history, seconds = trainer.state.log_history, ended.metrics["train_runtime"]
    tokens = (last(history, "num_tokens") or 0) - tokens_before
    return {
        "items": len(kept),
        "too_long": len(items) - len(kept),
        "held": len(held),
        "steps": trainer.state.global_step,
        "tokens": tokens,
        "tokens_per_s": round(tokens / seconds, 1),
        "seconds": round(seconds, 1),
        "reward": last(history, "reward"),
        "kl": last(history, "kl"),
        "right_before": before.get("eval_right"),
        "right_after": after.get("eval_right"),
        "readable_before": before.get("eval_readable"),
        "readable_after": after.get("eval_readable"),
    }


def _rows(encoder: Encoder, rows: Sequence[Shown]) -> list[dict[str, Any]]:
    return [{"prompt": _prompt(encoder, each), "row": number} for number, each in enumerate(rows)]


def _prompt(encoder: Encoder, row: Shown) -> str:
    """The text that the trainer's tokenizer makes the engine's tokens of. Raises BadTask where it cannot."""
    asked, tokenizer = encoder.prompt(row.item, row.order), encoder.tokenizer
    text, wanted = templated(tokenizer, asked), encode(tokenizer, asked)
    # Some tokenizers begin every text with a token that their template writes already.
    for each in (text, text.removeprefix(tokenizer.bos_token or "")):
        if tokenizer(each)["input_ids"] == wanted:
            return each
    raise BadTask(
        f"the tokenizer of {encoder.tokenizer.name_or_path} adds tokens that the engine does not feed"
    )


def _trainer(
    run: TrainingRun,
    learner: Learner,
    encoder: Encoder,
    train: Sequence[Shown],
    measured: Sequence[Shown],
    asked: GRPOConfig,
) -> Any:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    every = max(asked.steps // max(asked.evaluations, 1), 1)
    config = GRPOConfig(
        output_dir=str(run.checkpoints),
        max_steps=asked.steps,
        per_device_train_batch_size=asked.group,
        gradient_accumulation_steps=max(asked.groups // processes(), 1),
        num_generations=asked.group,
        num_generations_eval=1,
        per_device_eval_batch_size=16,
        eval_strategy="steps" if measured else "no",
        eval_steps=every,
        max_completion_length=run.profile.sampling.max_tokens,
        temperature=asked.temperature,
        beta=asked.kl,
        learning_rate=asked.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=0.05,
        **trainer_arguments(asked.seed, asked.checkpointing),
    )
    rows = [*train, *measured]
    numbered = _rows(encoder, rows)
    trainer = GRPOTrainer(
        model=learner.model,
        processing_class=learner.tokenizer,
        reward_funcs=OutcomeReward(run.profile, rows),
        args=config,
        train_dataset=Dataset.from_list(numbered[: len(train)]),
        eval_dataset=Dataset.from_list(numbered[len(train) :]) if measured else None,
    )
    watch(trainer, run.folder / LOG)
    return trainer
