"""What makes each row of one `generate` its own: its chance, its constraint, its end. torch only."""

from __future__ import annotations

from collections.abc import Callable

import llguidance.numpy
import torch
from llguidance import LLMatcher, LLTokenizer
from transformers import LogitsProcessor, StoppingCriteria

from grm_service.types import Params


class Draw(LogitsProcessor):  # type: ignore[misc]
    """Sampling by the Gumbel-max trick: the greedy choice over noisy logits is a draw from their softmax.

    So every row draws with a generator, temperature and top-p of its own in one greedy `generate`.
    """

    def __init__(self, params: list[Params]) -> None:
        self._params = params
        self._generators = [torch.Generator().manual_seed(p.seed) for p in params]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        drawn = scores.float()
        for i, params in enumerate(self._params):
            if params.temperature > 0:
                kept = _nucleus(drawn[i] / params.temperature, params.top_p)
                noise = torch.empty(kept.shape).exponential_(generator=self._generators[i])
                drawn[i] = kept - noise.clamp_min(1e-30).log().to(kept.device)
        return drawn


def _nucleus(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    if top_p >= 1:
        return logits
    ranked, places = logits.sort(descending=True)
    shares = ranked.softmax(-1)
    # The token that crosses top_p stays, so at least one always does.
    cut = shares.cumsum(-1) - shares >= top_p
    return logits.masked_fill(cut.scatter(0, places, cut), float("-inf"))


class Constrain(LogitsProcessor):  # type: ignore[misc]
    """Holds the rows that have a regex to it, and ends them when it is matched."""

    def __init__(
        self, tokenizer: LLTokenizer, params: list[Params], start: int, ends: tuple[int, ...]
    ) -> None:
        self._start, self._ends = start, ends
        self._matchers = {
            i: LLMatcher(tokenizer, LLMatcher.grammar_from_regex(p.regex))
            for i, p in enumerate(params)
            if p.regex is not None
        }

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for i, matcher in self._matchers.items():
            if input_ids.shape[1] > self._start and not matcher.is_stopped():
                matcher.consume_token(int(input_ids[i, -1]))
            scores[i] = self._masked(scores[i], matcher)
        return scores

    def _masked(self, row: torch.Tensor, matcher: LLMatcher) -> torch.Tensor:
        allowed = torch.zeros(row.shape[-1], dtype=torch.bool)
        if matcher.is_stopped():
            allowed[list(self._ends)] = True
        else:
            bits = llguidance.numpy.allocate_token_bitmask(1, row.shape[-1])
            llguidance.numpy.fill_next_token_bitmask(matcher, bits)
            words = torch.from_numpy(bits[0])
            allowed = ((words[:, None] >> torch.arange(32)) & 1).bool().flatten()[: row.shape[-1]]
        return row.masked_fill(~allowed.to(row.device), float("-inf"))


class Finish(StoppingCriteria):  # type: ignore[misc]
    """Ends a row at its own max_tokens, or when its caller has gone."""

    def __init__(self, params: list[Params], start: int, gone: Callable[[int], bool]) -> None:
        self._most = torch.tensor([p.max_tokens for p in params])
        self._start, self._gone = start, gone

    def __call__(self, input_ids: torch.Tensor, scores: object, **kwargs: object) -> torch.Tensor:
        full = input_ids.shape[1] - self._start >= self._most
        gone = torch.tensor([self._gone(i) for i in range(len(full))])
        return (full | gone).to(input_ids.device)
