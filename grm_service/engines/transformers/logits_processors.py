"""Logits processors with settings for each row of a batch: logprobs, regex, seeded sampling, stopping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import llguidance.numpy
import torch
from llguidance import LLMatcher, LLTokenizer
from transformers import LogitsProcessor, StoppingCriteria

from grm_service.engines.transformers import seeded_gumbel
from grm_service.types import Params

TokenLogprobs = list[tuple[int, float]]
"""Token ids with their natural log-probabilities, the most probable first."""


@dataclass(slots=True)
class GeneratedRow:
    """The tokens generated after a prompt. If an end token `stopped` it, that token is left out.

    `logprobs` has one entry a token, if requested.
    """

    tokens: list[int]
    stopped: bool
    logprobs: list[TokenLogprobs] = field(default_factory=list)


def top_logprobs(logits: torch.Tensor, count: int) -> TokenLogprobs:
    """Return the `count` most probable tokens of one row of logits (vocabulary,)."""
    values, tokens = logits.float().log_softmax(-1).topk(count)
    return list(zip(tokens.tolist(), values.tolist(), strict=True))


def regex_matcher(tokenizer: LLTokenizer, regex: str) -> LLMatcher:
    """Return a matcher of texts that match `regex` as a whole."""
    return LLMatcher(tokenizer, LLMatcher.grammar_from_regex(regex))


def allowed_tokens(matcher: LLMatcher, vocab_size: int, end_ids: tuple[int, ...]) -> torch.Tensor:
    """Return the bool mask (vocab_size,) of allowed next tokens: end tokens only after a complete match."""
    if matcher.is_stopped():
        mask = torch.zeros(vocab_size, dtype=torch.bool)
        mask[list(end_ids)] = True
        return mask
    bits = llguidance.numpy.allocate_token_bitmask(1, vocab_size)
    llguidance.numpy.fill_next_token_bitmask(matcher, bits)
    words = torch.from_numpy(bits[0])
    return ((words[:, None] >> torch.arange(32)) & 1).bool().flatten()[:vocab_size]


class RecordLogprobs(LogitsProcessor):  # type: ignore[misc]
    """Records the top tokens of the rows that request them. Runs before the processors that change logits."""

    def __init__(self, params: list[Params]) -> None:
        self._params = params
        self.rows: list[list[TokenLogprobs]] = [[] for _ in params]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for i, params in enumerate(self._params):
            if params.alternatives and len(self.rows[i]) < params.max_tokens:
                self.rows[i].append(top_logprobs(scores[i], params.alternatives))
        return scores


class SeededSampling(LogitsProcessor):  # type: ignore[misc]
    """Adds each row's Gumbel noise after its temperature and top-p, so that the argmax is a sample.

    `sizes` are the prompts' lengths in tokens, `start` is their padded length.
    """

    def __init__(self, params: list[Params], sizes: list[int], start: int) -> None:
        self._seeds, self._sizes, self._start = [p.seed for p in params], sizes, start
        self._sampled = [p.temperature > 0 for p in params]
        self._temperatures = torch.tensor([p.temperature or 1.0 for p in params])[:, None]
        self._top_p = torch.tensor([p.top_p for p in params])[:, None]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        new = input_ids.shape[1] - self._start
        rows = zip(self._sampled, self._seeds, self._sizes, strict=True)
        keys = [seeded_gumbel.noise_key(seed, size + new) if sampled else 0 for sampled, seed, size in rows]
        logits = scores.float() / self._temperatures.to(scores.device)
        if (self._top_p < 1).any():
            logits = _apply_top_p(logits, self._top_p.to(scores.device))
        return logits + seeded_gumbel.gumbel_noise(torch.tensor(keys).to(scores.device), scores.shape[-1])


def _apply_top_p(logits: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    sorted_logits, indices = logits.sort(descending=True)
    probabilities = sorted_logits.softmax(-1)
    # The token that crosses top_p stays, so at least one token always does.
    removed = (probabilities.cumsum(-1) - probabilities >= top_p) & (top_p < 1)
    return logits.masked_fill(removed.scatter(-1, indices, removed), float("-inf"))


class RegexConstraint(LogitsProcessor):  # type: ignore[misc]
    """Masks the tokens that a row's regex does not allow, and forces the end of a complete match."""

    def __init__(
        self, tokenizer: LLTokenizer, params: list[Params], start: int, end_ids: tuple[int, ...]
    ) -> None:
        self._start, self._end_ids = start, end_ids
        self._matchers = {
            i: regex_matcher(tokenizer, p.regex) for i, p in enumerate(params) if p.regex is not None
        }

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for i, matcher in self._matchers.items():
            if input_ids.shape[1] > self._start and not matcher.is_stopped():
                matcher.consume_token(int(input_ids[i, -1]))
            mask = allowed_tokens(matcher, scores.shape[-1], self._end_ids).to(scores.device)
            scores[i] = scores[i].masked_fill(~mask, float("-inf"))
        return scores


class RowStopping(StoppingCriteria):  # type: ignore[misc]
    """Stops a row at its own max_tokens, or when its request is cancelled."""

    def __init__(self, params: list[Params], start: int, is_cancelled: Callable[[int], bool]) -> None:
        self._max_tokens = torch.tensor([p.max_tokens for p in params])
        self._start, self._is_cancelled = start, is_cancelled

    def __call__(self, input_ids: torch.Tensor, scores: object, **kwargs: object) -> torch.Tensor:
        full = input_ids.shape[1] - self._start >= self._max_tokens
        cancelled = torch.tensor([self._is_cancelled(i) for i in range(len(full))])
        return (full | cancelled).to(input_ids.device)
