"""OpenVINO GenAI's continuous batching pipeline, as the engine uses it; one thread owns it."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openvino
import openvino_genai as genai

from grm_service.engines import machine
from grm_service.engines.files import facts
from grm_service.engines.prefixes import Ids
from grm_service.errors import EngineError
from grm_service.types import Alternative, Params, Prompt

logger = logging.getLogger(__name__)
BLOCK = 32
"""Tokens a block of OpenVINO's cache on a CPU: prefixes are shared by whole blocks."""
_BATCHED_TOKENS = 2048
_ENOUGH = 2**16
"""Tokens: OpenVINO gives no memory back, so a cache without need of more would only grow."""


@contextmanager
def writable(path: Path) -> Iterator[Path]:
    """The path, or a copy while it is loaded: OpenVINO opens a GGUF for writing, though it only reads."""
    if path.is_dir() or os.access(path, os.W_OK):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="grm-model-") as folder:
        yield Path(shutil.copyfile(path, Path(folder) / path.name))


class Pipeline:
    """A loaded model. `context` and `kept` are the most tokens of one request and of the cache.

    `kv_cache_gb` is the most memory for keys and values (GiB, taken as it is needed; None: enough for 64
    samples of 1,000 tokens, but at most half of what is free), `precision` "f32" or "auto". Raises
    ModelNotLoaded for what OpenVINO would misread, and whatever OpenVINO raises.
    """

    def __init__(self, path: Path, kv_cache_gb: float | None, precision: str) -> None:
        known = facts.read(path)
        self.control_tokens = known.control_tokens
        self.kept = _kept(kv_cache_gb, 2 * known.kept_per_token)
        properties: dict[str, Any] = {"INFERENCE_NUM_THREADS": machine.cores()}
        if precision != "auto":
            # Without the second, activations are rounded to 8 bits where the weights are quantised.
            properties |= {"INFERENCE_PRECISION_HINT": precision, "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
        with writable(path) as lent:
            self._pipeline = genai.ContinuousBatchingPipeline(str(lent), self._scheduler(), "CPU", properties)
        self._tokenizer = self._pipeline.get_tokenizer()
        # The tokenizer cuts at a length of its own without a word: know it, so as to refuse instead.
        self.context = min(known.context, self.encode("a " * (2 * known.context)).shape[1])
        self._requests = 0
        logger.info("%d cores, room for %d tokens", machine.cores(), self.kept)

    def _scheduler(self) -> Any:
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size, scheduler.num_kv_blocks = 0, self.kept // BLOCK
        scheduler.enable_prefix_caching = True
        scheduler.max_num_batched_tokens = _BATCHED_TOKENS
        return scheduler

    def step(self) -> None:
        """One token for all that runs, or part of a prefill."""
        if self._pipeline.has_non_finished_requests():
            self._pipeline.step()

    def text(self, prompt: Prompt) -> str:
        turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
        return str(self._tokenizer.apply_chat_template(turns, True)) + prompt.continuation

    def encode(self, text: str) -> Any:
        """A tensor of ids (1, tokens), cut at the tokenizer's own length."""
        return self._tokenizer.encode(text, add_special_tokens=False).input_ids

    def decode(self, tokens: list[int], special: bool = False) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=not special))

    def size(self, text: str) -> int:
        """Tokens of a text that `encode` may cut, about."""
        return sum(int(self.encode(text[at : at + 4096]).shape[1]) for at in range(0, len(text), 4096))

    def begin(self, ids: Any, params: Params) -> Any:
        """The handle of a request that joins at the next step."""
        return self._add(ids, self._config(params))

    def look(self, ids: Ids, most: int) -> Any:
        """The handle of a one-step beam search: its beams are the likeliest next tokens."""
        beams = max(2, most)  # one would be no beam search
        # One step: no beam has ended yet, and a score is the log-probability of one token.
        config = genai.GenerationConfig(
            max_new_tokens=1, num_beams=beams, num_return_sequences=beams, apply_chat_template=False
        )
        return self._add(openvino.Tensor(ids[None]), config)

    def likely(self, look: Any) -> tuple[Alternative, ...]:
        """What a finished look saw, likeliest first."""
        beams = sorted(look.read().values(), key=lambda beam: -beam.score)
        return tuple(Alternative(self.decode(b.generated_ids, special=True), b.score) for b in beams)

    def read(self, handle: Any) -> tuple[list[int], bool]:
        """The tokens since the last read, and whether they ended at the request's length."""
        if not handle.can_read():
            return [], False
        (output,) = handle.read().values()
        return list(output.generated_ids), output.finish_reason == genai.GenerationFinishReason.LENGTH

    def finished(self, handle: Any) -> bool:
        """Raises EngineError where OpenVINO gave the request up."""
        status = handle.get_status()
        if status in (genai.GenerationStatus.RUNNING, genai.GenerationStatus.FINISHED):
            return bool(status == genai.GenerationStatus.FINISHED)
        raise EngineError(f"OpenVINO gave a request up: {status.name}")

    def _add(self, ids: Any, config: Any) -> Any:
        self._requests += 1
        return self._pipeline.add_request(self._requests, ids, config)

    def _config(self, params: Params) -> Any:
        config = genai.GenerationConfig(
            max_new_tokens=params.max_tokens,
            eos_token_id=self._tokenizer.get_eos_token_id(),
            stop_token_ids=self._pipeline.get_config().stop_token_ids,
            apply_chat_template=False,
        )
        if params.temperature > 0:
            config.do_sample = True
            config.temperature = params.temperature
            config.top_p = params.top_p
            config.rng_seed = params.seed
        if params.regex is not None:
            config.structured_output_config = genai.StructuredOutputConfig(regex=params.regex)
        return config


def _kept(kv_cache_gb: float | None, per_token: int) -> int:
    """Whole blocks of tokens, at `per_token` bytes each."""
    if kv_cache_gb is None:
        room = min(_ENOUGH * per_token, machine.free_gb() / 2 * 2**30)
    else:
        room = kv_cache_gb * 2**30
    return int(room / (per_token * BLOCK)) * BLOCK
