"""The transformers engine on CUDA, with a model of realistic size and random weights."""

from __future__ import annotations

import asyncio
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import workload
from benchmarks.results import Row, Table
from grm_service.engines.files import weights
from grm_service.types import Params

_KS = (8, 32)
# The shape of Qwen3-1.7B.
_SHAPE = {
    "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 8192, "tie_word_embeddings": True,
}  # fmt: skip


def tables() -> list[Table]:
    from grm_service.engines.transformers.engine import has_cuda

    title = "Embedded, on CUDA"
    if not has_cuda():
        return [Table(title, [Row("not measured", "no GPU was available in this run")])]
    with tempfile.TemporaryDirectory() as folder:
        model = _random_model(Path(folder), _SHAPE)
        rows = [_row(Path(folder), model, k) for k in _KS]
    notes = (
        "Random weights in the shape of Qwen3-1.7B, bf16, SmolLM2's tokenizer, one prompt of about 1,000 "
        f"tokens, not cached, {workload.NEW_TOKENS} new tokens."
    )
    return [Table(title, rows, notes)]


def _random_model(folder: Path, shape: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    source = workload.source()
    assert source.gguf is not None
    tokenizer = AutoTokenizer.from_pretrained(weights.ensure_safetensors(source.gguf, source.cache))
    config = Qwen3Config(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, **shape)
    model = Qwen3ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _row(folder: Path, model: Any, k: int) -> Row:
    plain_s = _generate(model, folder, k)
    seconds, speed = asyncio.run(_engine(folder, k))
    ratio = speed / (k * workload.NEW_TOKENS / plain_s)
    return Row(f"the transformers engine over `generate`, k = {k}, tokens/s", f"{ratio:.1f} ×",
               seconds=f"{seconds:.2f} · {plain_s:.2f}")  # fmt: skip


async def _engine(folder: Path, k: int) -> tuple[float, float]:
    from grm_service.engines.transformers.engine import TransformersEngine

    engine = TransformersEngine("random", partial(str, folder))
    await engine.start()

    async def sample() -> int:
        prompt = workload.prompt()
        pending = (engine.complete(prompt, Params(workload.NEW_TOKENS, 0.7, 1.0, seed)) for seed in range(k))
        return sum([done.usage.completion_tokens for done in await asyncio.gather(*pending)])

    runs = [await workload.timed(sample) for _ in range(4)][1:]
    await engine.close()
    return workload.median([run[0] for run in runs]), workload.median([run[1] for run in runs])


def _generate(model: Any, folder: Path, k: int) -> float:
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    length = {"max_new_tokens": workload.NEW_TOKENS, "min_new_tokens": workload.NEW_TOKENS}
    runs = []
    for _ in range(4):
        text = workload.prompt().messages[-1].content
        ids = tokenizer(text, return_tensors="pt").to(model.device)
        begun = time.perf_counter()
        with torch.inference_mode():
            model.generate(**ids, **length, do_sample=True, temperature=0.7, num_return_sequences=k)
        runs.append(time.perf_counter() - begun)
    return workload.median(runs[1:])
