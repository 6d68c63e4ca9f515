"""Tiny models, tokenizers and adapters with random weights that F16 represents exactly."""

import json
from itertools import chain

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from grm_service.engines.files import gguf_tokenizer

PROMPTS = (
    "Name 3 primes.",
    "Which of the two responses is better, and why?",
    "a  b\n\n12 + 34 =  46, isn't it?",
)
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ROWS = 352
SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "vocab_size": ROWS, "max_position_embeddings": 256,
    "rope_theta": 5000.0, "rms_norm_eps": 1e-5, "eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 1,
}  # fmt: skip
QWEN = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(Regex(gguf_tokenizer._QWEN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)
SMOLLM = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
)
FAMILIES = {
    "llama": ({"tie_word_embeddings": True, "mlp_bias": True}, SMOLLM, torch.float32),
    "qwen2": ({"tie_word_embeddings": False, "head_dim": 16}, QWEN, torch.bfloat16),
    "qwen3": ({"tie_word_embeddings": True}, QWEN, torch.float16),
}


def save_tokenizer(folder, split):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = split, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=ROWS - 20,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(PROMPTS * 9, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", chat_template=TEMPLATE
    )
    fast.save_pretrained(folder)
    return fast


def in_256ths(tensor, seed, spread=64):
    noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed))
    return (noise * spread).round().clamp(-255, 255) / 256


def save_model(folder, name, **changed):
    own, split, dtype = FAMILIES[name]
    tokenizer = save_tokenizer(folder, split)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **SIZES | own | changed))
    readable = [tokenizer.decode([i]).isascii() for i in range(len(tokenizer))]
    for seed, (weight, values) in enumerate(model.named_parameters()):
        values.data = in_256ths(values, seed) + (1 if "norm" in weight else 0)
        if values.shape[0] == ROWS:  # a partial UTF-8 character has no unique text
            values.data[~torch.tensor(readable + [False] * (ROWS - len(readable)))] = 0
    model.to(dtype).save_pretrained(folder)
    return folder


def save_adapter(folder, base, tensors, **config):
    folder.mkdir(exist_ok=True)
    defaults = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": 4, "lora_alpha": 8}
    defaults |= {"target_modules": ["q_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(defaults | config))
    save_file(
        {f"base_model.model.{k}": v.contiguous() for k, v in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    return folder


def pair(module, rows, width, rank=4, seed=0):
    return {
        f"{module}.lora_A.weight": in_256ths(torch.empty(rank, width), seed).sign() / 4,
        f"{module}.lora_B.weight": in_256ths(torch.empty(rows, rank), seed + 1).sign() / 8,
    }


def pairs(base):
    """Return LoRA factors for every linear layer of a tiny model."""
    linear = [
        (name, module.weight.shape)
        for name, module in AutoModelForCausalLM.from_pretrained(base).named_modules()
        if name.endswith("_proj")
    ]
    each = (pair(name, *shape, seed=seed) for seed, (name, shape) in enumerate(linear))
    return dict(chain.from_iterable(tensors.items() for tensors in each))


Q = "model.layers.0.self_attn.q_proj"
PAIR = pair(Q, 128, 64)
"""LoRA factors of one layer of the tiny llama."""


def changed_json(model, folder, file, changed):
    """Save the model with changes in one of its JSON files."""
    folder.mkdir()
    for each in model.iterdir():
        (folder / each.name).symlink_to(each)
    (folder / file).unlink()
    (folder / file).write_text(json.dumps(json.loads((model / file).read_text()) | changed))
