"""A wrapper of OpenVINO GenAI's continuous batching pipeline. It is used from one thread only."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openvino
import openvino_genai as genai

from grm_service.engines import machine
from grm_service.engines.files.metadata import read_metadata
from grm_service.engines.prefixes import TokenIds
from grm_service.engines.rendering import ChatTemplate, decode_with_tags, is_thinking_tag
from grm_service.errors import EngineError
from grm_service.types import Alternative, Params

logger = logging.getLogger(__name__)
BLOCK = 32
"""Tokens in a block of OpenVINO's CPU cache. Prefixes are shared in whole blocks."""
_MAX_BATCHED_TOKENS = 2048
_MAX_DEFAULT_TOKENS = 2**16
"""Default limit of the KV cache, in tokens. OpenVINO never frees it, so a larger one would only grow."""


@contextmanager
def writable_file(path: Path) -> Iterator[Path]:
    """Yield the path, or a temporary copy if it is read-only: OpenVINO opens a GGUF for writing."""
    if path.is_dir() or os.access(path, os.W_OK):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="grm-model-") as folder:
        yield Path(shutil.copyfile(path, Path(folder) / path.name))


class Pipeline:
    """A loaded model and its chat `template`.

    `context` is the most tokens of one request, `cache_tokens` of the whole KV cache.

    `kv_cache_gb` is the most memory for keys and values (GiB, allocated when needed; None: enough for 64
    samples of 1,000 tokens, but at most half of the free memory). `precision` is "f32" or "auto". Raises
    ModelNotLoaded for a file that OpenVINO would misread, and OpenVINO's own errors.
    """

    def __init__(self, path: Path, kv_cache_gb: float | None, precision: str) -> None:
        metadata = read_metadata(path)
        self.control_tokens = metadata.control_tokens
        self.cache_tokens = _cache_tokens(kv_cache_gb, 2 * metadata.kv_values_per_token)
        properties: dict[str, Any] = {"INFERENCE_NUM_THREADS": machine.cpu_cores()}
        if machine.onednn_limited_to_f32():
            # OpenVINO looks at the processor only, and would choose bf16 and products of 8 bits, which oneDNN
            # then refuses.
            precision = "f32"
        if precision != "auto":
            # Without the group size, activations are rounded to 8 bits if the weights are quantised.
            properties |= {"INFERENCE_PRECISION_HINT": precision, "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
        with writable_file(path) as file:
            self._pipeline = genai.ContinuousBatchingPipeline(str(file), self._scheduler(), "CPU", properties)
        self._tokenizer = self._pipeline.get_tokenizer()
        self.template = ChatTemplate(self._render, self._tokenizer.get_original_chat_template())
        self._tags = self._thinking_tags()
        # The tokenizer silently truncates at a length of its own. Measure it, so that longer prompts are
        # rejected.
        self.context = min(metadata.context, self.encode("a " * (2 * metadata.context)).shape[1])
        self._requests = 0
        logger.info("%d cores, KV cache for %d tokens", machine.cpu_cores(), self.cache_tokens)

    def _scheduler(self) -> Any:
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size, scheduler.num_kv_blocks = 0, self.cache_tokens // BLOCK
        scheduler.enable_prefix_caching = True
        scheduler.max_num_batched_tokens = _MAX_BATCHED_TOKENS
        return scheduler

    def step(self) -> None:
        """Generate one token for every running request, or run a part of a prefill."""
        if self._pipeline.has_non_finished_requests():
            self._pipeline.step()

    def encode(self, text: str) -> Any:
        """Return a tensor of token ids (1, tokens), truncated at the tokenizer's own limit."""
        return self._tokenizer.encode(text, add_special_tokens=False).input_ids

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens without special tokens other than thinking tags."""
        return decode_with_tags(tokens, self._tags, lambda run: str(self._tokenizer.decode(run)))

    def count_tokens(self, text: str) -> int:
        """Return the approximate number of tokens of a text that `encode` may truncate."""
        return sum(int(self.encode(text[at : at + 4096]).shape[1]) for at in range(0, len(text), 4096))

    def submit(self, ids: Any, params: Params) -> Any:
        """Add a request, which joins the batch at the next step, and return its handle."""
        return self._add(ids, self._config(params))

    def submit_top_tokens(self, ids: TokenIds, count: int) -> Any:
        """Add a request for the `count` most probable next tokens and return its handle.

        It is a beam search of one step, whose beams are these tokens.
        """
        beams = max(2, count)  # one beam would not be a beam search
        # After one step no beam has ended, and a beam's score is the log-probability of its token.
        config = genai.GenerationConfig(
            max_new_tokens=1, num_beams=beams, num_return_sequences=beams, apply_chat_template=False
        )
        return self._add(openvino.Tensor(ids[None]), config)

    def read_top_tokens(self, handle: Any) -> tuple[Alternative, ...]:
        """Return the result of a finished `submit_top_tokens`, the most probable token first."""
        beams = sorted(handle.read().values(), key=lambda beam: -beam.score)
        return tuple(Alternative(self._token_text(b.generated_ids), b.score) for b in beams)

    def read(self, handle: Any) -> tuple[list[int], bool]:
        """Return the tokens since the last read, and True if the request has reached its max_tokens."""
        if not handle.can_read():
            return [], False
        (output,) = handle.read().values()
        return list(output.generated_ids), output.finish_reason == genai.GenerationFinishReason.LENGTH

    def is_finished(self, handle: Any) -> bool:
        """Return True if a request is finished. Raises EngineError if OpenVINO dropped it."""
        status = handle.get_status()
        if status in (genai.GenerationStatus.RUNNING, genai.GenerationStatus.FINISHED):
            return bool(status == genai.GenerationStatus.FINISHED)
        raise EngineError(f"OpenVINO dropped a request: {status.name}")

    def _token_text(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def _thinking_tags(self) -> dict[int, str]:
        """Return the thinking tags among the control tokens, by id."""
        tags = {token: self.encode(token).data[0] for token in filter(is_thinking_tag, self.control_tokens)}
        return {int(ids[0]): token for token, ids in tags.items() if len(ids) == 1}

    def _render(self, messages: list[dict[str, str]], variables: Mapping[str, Any]) -> str:
        context = dict(variables) or None
        return str(self._tokenizer.apply_chat_template(messages, True, extra_context=context))

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


def _cache_tokens(kv_cache_gb: float | None, bytes_per_token: int) -> int:
    """Return the size of the KV cache in tokens, in whole blocks."""
    if kv_cache_gb is None:
        size = min(_MAX_DEFAULT_TOKENS * bytes_per_token, machine.free_memory_gb() / 2 * 2**30)
    else:
        size = kv_cache_gb * 2**30
    return int(size / (bytes_per_token * BLOCK)) * BLOCK
