"""What makes each row of one batch its own: its chance, its constraint, its end. torch only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import llguidance.numpy
import torch
from llguidance import LLMatcher, LLTokenizer
from transformers import LogitsProcessor, StoppingCriteria

from grm_service.engines.transformers import seeded_gumbel
from grm_service.types import Params

Likely = list[tuple[int, float]]
"""Tokens with their natural log-probabilities, likeliest first."""


@dataclass(slots=True)
class RowState:
    """What was generated after a prompt: tokens, without the end that stopped them."""

    tokens: list[int]
    stopped: bool
    alternatives: list[Likely] = field(default_factory=list)


def likely(logits: torch.Tensor, most: int) -> Likely:
    """Of one row of logits."""
    values, tokens = logits.float().log_softmax(-1).topk(most)
    return list(zip(tokens.tolist(), values.tolist(), strict=True))


def matcher(tokenizer: LLTokenizer, regex: str) -> LLMatcher:
    """Follows a text that must match `regex` as a whole."""
    return LLMatcher(tokenizer, LLMatcher.grammar_from_regex(regex))


def allowed(following: LLMatcher, width: int, ends: tuple[int, ...]) -> torch.Tensor:
    """Which of `width` tokens may come next (bool); only ends where all is matched."""
    if following.is_stopped():
        mask = torch.zeros(width, dtype=torch.bool)
        mask[list(ends)] = True
        return mask
    bits = llguidance.numpy.allocate_token_bitmask(1, width)
    llguidance.numpy.fill_next_token_bitmask(following, bits)
    words = torch.from_numpy(bits[0])
    return ((words[:, None] >> torch.arange(32)) & 1).bool().flatten()[:width]


class Look(LogitsProcessor):  # type: ignore[misc]
    """Keeps the likeliest tokens of the rows that ask for them, before anything changes the logits."""

    def __init__(self, params: list[Params]) -> None:
        self._params = params
        self.seen: list[list[Likely]] = [[] for _ in params]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for i, params in enumerate(self._params):
            if params.alternatives and len(self.seen[i]) < params.max_tokens:
                self.seen[i].append(likely(scores[i], params.alternatives))
        return scores


class Draw(LogitsProcessor):  # type: ignore[misc]
    """Puts each row's chance into its logits, by its own seed, temperature and top-p."""

    def __init__(self, params: list[Params], sizes: list[int], start: int) -> None:
        self._seeds, self._sizes, self._start = [p.seed for p in params], sizes, start
        self._warm = [p.temperature > 0 for p in params]
        self._temperatures = torch.tensor([p.temperature or 1.0 for p in params])[:, None]
        self._top_p = torch.tensor([p.top_p for p in params])[:, None]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        new = input_ids.shape[1] - self._start
        rows = zip(self._warm, self._seeds, self._sizes, strict=True)
        keys = torch.tensor([seeded_gumbel.key(seed, size + new) if warm else 0 for warm, seed, size in rows])
        logits = scores.float() / self._temperatures.to(scores.device)
        if (self._top_p < 1).any():
            logits = _nucleus(logits, self._top_p.to(scores.device))
        return logits + seeded_gumbel.gumbel(keys.to(scores.device), scores.shape[-1])


def _nucleus(logits: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    ranked, places = logits.sort(descending=True)
    shares = ranked.softmax(-1)
    # The token that crosses top_p stays, so at least one always does.
    cut = (shares.cumsum(-1) - shares >= top_p) & (top_p < 1)
    return logits.masked_fill(cut.scatter(-1, places, cut), float("-inf"))


class Constrain(LogitsProcessor):  # type: ignore[misc]
    """Holds the rows that have a regex to it, and ends them when it is matched."""

    def __init__(
        self, tokenizer: LLTokenizer, params: list[Params], start: int, ends: tuple[int, ...]
    ) -> None:
        self._start, self._ends = start, ends
        self._matchers = {i: matcher(tokenizer, p.regex) for i, p in enumerate(params) if p.regex is not None}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for i, following in self._matchers.items():
            if input_ids.shape[1] > self._start and not following.is_stopped():
                following.consume_token(int(input_ids[i, -1]))
            mask = allowed(following, scores.shape[-1], self._ends).to(scores.device)
            scores[i] = scores[i].masked_fill(~mask, float("-inf"))
        return scores


class Finish(StoppingCriteria):  # type: ignore[misc]
    """Ends a row at its own max_tokens, or when its caller has gone."""

    def __init__(self, params: list[Params], start: int, gone: Callable[[int], bool]) -> None:
        self._most = torch.tensor([p.max_tokens for p in params])
        self._start, self._gone = start, gone

    def __call__(self, input_ids: torch.Tensor, scores: object, **kwargs: object) -> torch.Tensor:
        full = input_ids.shape[1] - self._start >= self._most
        gone = torch.tensor([self._gone(i) for i in range(len(full))])
        return (full | gone).to(input_ids.device)
