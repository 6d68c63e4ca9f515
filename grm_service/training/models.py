"""The model that learns: the one that the profile serves, whole or through a LoRA adapter."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from grm_service.engines.choice import Source, transformers_files
from grm_service.engines.files.adapter import base_of, is_adapter
from grm_service.engines.meta_rm import fill_with
from grm_service.engines.transformers.engine import ends
from grm_service.errors import MissingExtra, ModelNotLoaded


@dataclass(frozen=True, slots=True)
class Learner:
    """A model with what trains of it, its tokenizer, the tokens that end a turn, and where it came from."""

    model: Any
    tokenizer: Any
    ends: Sequence[int]
    files: str

    @property
    def trainable(self) -> int:
        """How many numbers train."""
        return sum(each.numel() for each in self.model.parameters() if each.requires_grad)


def require() -> None:
    """Raises MissingExtra where a package that trains is missing."""
    if not all(map(find_spec, ("torch", "trl", "peft", "datasets"))):
        raise MissingExtra("train", "training")


def load(source: Source, rank: int | None) -> Learner:
    """With a LoRA adapter of this rank on every linear layer, or, where it is None, all of the model.

    An adapter that the source has already goes on being trained. Raises ModelNotLoaded, MissingExtra.
    """
    require()
    from transformers import AutoTokenizer

    files = transformers_files(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(files)
        model = _adapted(Path(files), rank) if is_adapter(Path(files)) else _fresh(files, rank)
    except (OSError, ValueError) as failed:
        raise ModelNotLoaded(f"{source.model} cannot be loaded to be trained: {failed}") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    found = ends(model.generation_config.eos_token_id, tokenizer.eos_token_id)
    return Learner(model, tokenizer, found, files)


def load_classifier(source: Source, rank: int | None) -> Learner:
    """The same model with one logit in place of the next token, its adapter, if it has one, merged.

    A LoRA adapter of this rank trains beside the head, or, where it is None, all does. Raises as `load`.
    """
    require()
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    files = transformers_files(source)
    # What vLLM reads out of the problem type is that a grade is the logit's sigmoid.
    head = {"num_labels": 1, "problem_type": "multi_label_classification"}
    kind = AutoModelForSequenceClassification
    try:
        tokenizer = AutoTokenizer.from_pretrained(files)
        if is_adapter(Path(files)):
            judge = _adapted(Path(files), None)
            judge.config.update(head)
            model = kind.from_config(judge.config, dtype=_dtype(rank))
            body = getattr(judge, judge.base_model_prefix).state_dict()
            getattr(model, model.base_model_prefix).load_state_dict(body)
        else:
            model = kind.from_pretrained(files, dtype=_dtype(rank), **head)
    except (OSError, ValueError) as failed:
        raise ModelNotLoaded(f"{source.model} cannot be loaded to be trained: {failed}") from None
    model.score.weight.data.zero_()  # it begins with an even chance for all
    fill_with(model, tokenizer)
    return Learner(model if rank is None else _with_adapter(model, rank, "SEQ_CLS"), tokenizer, (), files)


def processes() -> int:
    """How many train together (accelerate launch)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this process is the one that writes."""
    return os.environ.get("RANK", "0") == "0"


def computes_bf16() -> bool:
    """Whether this machine multiplies in bf16, rather than only rounding to it."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported())


def trainer_arguments(seed: int, checkpointing: bool) -> dict[str, Any]:
    """What all trainers are told alike, by the names of TrainingArguments."""
    import torch

    gpu = torch.cuda.is_available()
    return {
        "bf16": computes_bf16(),
        "use_cpu": not gpu,
        "dataloader_pin_memory": gpu,
        "gradient_checkpointing": checkpointing,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 0.1,
        "save_total_limit": 1,
        "report_to": "none",
        "seed": seed,
    }


def save(learner: Learner, folder: Path) -> None:
    """Adapter or weights, and the tokenizer with its template, without which neither engine runs them.

    An adapter is kept in float16: half the size, and exact enough for what a GGUF rounds to anyway.
    """
    import torch
    from peft import PeftModel, get_peft_model_state_dict

    model = learner.model
    if isinstance(model, PeftModel):
        state = get_peft_model_state_dict(model)
        halved = {name: value.to(torch.float16) for name, value in state.items()}
        model.save_pretrained(str(folder), state_dict=halved, selected_adapters=["default"])
        # A form to be filled in, which says nothing of this model.
        (folder / "README.md").unlink(missing_ok=True)
    else:
        model.save_pretrained(folder)
    learner.tokenizer.save_pretrained(folder)


def _fresh(files: str, rank: int | None) -> Any:
    model = _base(files, rank)
    return model if rank is None else _with_adapter(model, rank, "CAUSAL_LM")


def _with_adapter(model: Any, rank: int, kind: str) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type=kind, lora_dropout=0.0
    )
    adapted = get_peft_model(model, config)
    for each in adapted.parameters():
        if each.requires_grad:  # a head beside the adapter has its model's precision
            each.data = each.data.float()
    return adapted


def _adapted(files: Path, rank: int | None) -> Any:
    from peft import PeftModel

    named = json.loads((files / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    base = _base(str(base_of(files) or named), rank)
    model = PeftModel.from_pretrained(base, str(files), is_trainable=rank is not None)
    return model if rank is not None else model.merge_and_unload()


def _base(files: str, rank: int | None) -> Any:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(files, dtype=_dtype(rank))
    if rank is None:
        model.requires_grad_(True)
    return model


def _dtype(rank: int | None) -> Any:
    """What stays as it is may be rounded; what trains must take small steps."""
    import torch

    return torch.bfloat16 if rank is not None and computes_bf16() else torch.float32
