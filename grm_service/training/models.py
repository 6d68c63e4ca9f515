"""The model to train: the profile's model, with all weights or through a LoRA adapter."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from grm_service.engines.files.adapter import base_folder, is_adapter
from grm_service.engines.files.source import ModelSource, transformers_path
from grm_service.engines.meta_rm import set_pad_token
from grm_service.engines.transformers.dtype import device, has_bf16
from grm_service.engines.transformers.engine import end_token_ids
from grm_service.errors import MissingExtra, ModelNotLoaded


@dataclass(frozen=True, slots=True)
class Learner:
    """A model to train, its tokenizer and EOS tokens, and the folder or hub id that it was loaded from."""

    model: Any
    tokenizer: Any
    eos_token_ids: Sequence[int]
    files: str

    @property
    def trainable(self) -> int:
        """The number of trainable parameters."""
        return sum(each.numel() for each in self.model.parameters() if each.requires_grad)


def require_packages() -> None:
    """Raise MissingExtra if a package for training is not installed."""
    if not all(map(find_spec, ("torch", "trl", "peft", "datasets"))):
        raise MissingExtra("train", "training")


def load(source: ModelSource, rank: int | None, layers: int | None = None) -> Learner:
    """Load a causal LM with a LoRA adapter of this rank on every linear layer; None trains all weights.

    `layers`: the adapter is on the last ones only, so that no gradient is computed below them. If the source
    has an adapter already, it is trained further. Raises ModelNotLoaded, MissingExtra.
    """
    require_packages()
    from transformers import AutoTokenizer

    files = transformers_path(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(files)
        model = _adapted(Path(files), rank) if is_adapter(Path(files)) else _fresh(files, rank, layers)
    except (OSError, ValueError) as error:
        raise ModelNotLoaded(f"{source.model} cannot be loaded for training: {error}") from None
    # TRL needs one to pad with; it ignores the labels of padding.
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    eos_token_ids = end_token_ids(model.generation_config.eos_token_id, tokenizer.eos_token_id)
    return Learner(model, tokenizer, eos_token_ids, files)


def load_classifier(source: ModelSource, rank: int | None) -> Learner:
    """Load the model as a classifier with one logit; an adapter that it has is merged.

    A LoRA adapter of this rank is trained together with the head; None trains all weights. Raises as `load`.
    """
    require_packages()
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    files = transformers_path(source)
    # From this problem type vLLM knows that a grade is the sigmoid of the logit.
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
    except (OSError, ValueError) as error:
        raise ModelNotLoaded(f"{source.model} cannot be loaded for training: {error}") from None
    model.score.weight.data.zero_()  # every grade starts at 0.5
    set_pad_token(model, tokenizer)
    return Learner(model if rank is None else _with_adapter(model, rank, "SEQ_CLS"), tokenizer, (), files)


def world_size() -> int:
    """Return the number of processes that train together (accelerate launch)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Return whether this process is the one that writes files."""
    return os.environ.get("RANK", "0") == "0"


def trainer_arguments(seed: int, checkpointing: bool) -> dict[str, Any]:
    """Return the TrainingArguments that all trainers share."""
    import torch

    gpu = torch.cuda.is_available()
    return {
        "bf16": has_bf16(device()),
        "use_cpu": not gpu,
        "dataloader_pin_memory": gpu,
        "gradient_checkpointing": checkpointing,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 0.1,  # of all steps
        "save_total_limit": 1,
        "report_to": "none",
        "seed": seed,
    }


def save(learner: Learner, folder: Path) -> None:
    """Save the adapter or the weights, with the tokenizer and its chat template, which both engines need.

    An adapter is saved in float16: half the size, and more precise than the GGUF that it is merged into.
    """
    import torch
    from peft import PeftModel, get_peft_model_state_dict

    model = learner.model
    if isinstance(model, PeftModel):
        state = get_peft_model_state_dict(model)
        halved = {name: value.to(torch.float16) for name, value in state.items()}
        model.save_pretrained(str(folder), state_dict=halved, selected_adapters=["default"])
        # An empty model card.
        (folder / "README.md").unlink(missing_ok=True)
    else:
        model.save_pretrained(folder)
    learner.tokenizer.save_pretrained(folder)


def _fresh(files: str, rank: int | None, layers: int | None) -> Any:
    model = _base(files, rank)
    return model if rank is None else _with_adapter(model, rank, "CAUSAL_LM", layers)


def _with_adapter(model: Any, rank: int, kind: str, layers: int | None = None) -> Any:
    from peft import LoraConfig, get_peft_model

    count = model.config.num_hidden_layers
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear" if layers is None else _linear_names(model),
        layers_to_transform=None if layers is None else list(range(max(count - layers, 0), count)),
        task_type=kind,
        lora_dropout=0.0,
    )
    adapted = get_peft_model(model, config)
    for each in adapted.parameters():
        if each.requires_grad:  # PEFT leaves a head in the precision of the model
            each.data = each.data.float()
    return adapted


def _linear_names(model: Any) -> list[str]:
    """Return the names of the linear modules within layers; PEFT selects layers only for names."""
    import torch

    body = getattr(model, model.base_model_prefix)
    modules = body.layers.named_modules()
    return sorted({name.rpartition(".")[2] for name, each in modules if isinstance(each, torch.nn.Linear)})


def _adapted(files: Path, rank: int | None) -> Any:
    from peft import PeftModel

    config = json.loads((files / "adapter_config.json").read_text(encoding="utf-8"))
    base = _base(str(base_folder(files) or config["base_model_name_or_path"]), rank)
    model = PeftModel.from_pretrained(base, str(files), is_trainable=rank is not None)
    return model if rank is not None else model.merge_and_unload()


def _base(files: str, rank: int | None) -> Any:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(files, dtype=_dtype(rank))
    if rank is None:
        model.requires_grad_(True)
    return model


def _dtype(rank: int | None) -> Any:
    """Return the precision of the weights: frozen ones can be bf16, small updates need float32."""
    import torch

    return torch.bfloat16 if rank is not None and has_bf16(device()) else torch.float32
