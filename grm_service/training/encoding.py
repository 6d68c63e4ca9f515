"""Training examples as token ids, with the same prompt tokens that the engine gets in serving."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from grm_service.engines.rendering import Rendered
from grm_service.engines.transformers.engine import chat_template, control_tokens, encode
from grm_service.evaluation.dataset import Item
from grm_service.judging import parse
from grm_service.judging.prompt import render
from grm_service.profiles.profile import Profile
from grm_service.row_values import Turns
from grm_service.thinking import split_thinking
from grm_service.training.rejection_sampling import Example
from grm_service.types import Params, Prompt, Thinking

IGNORED = -100
"""The label of a token that does not count in the loss."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The token ids of a prompt and of its completion, which ends with the end-of-turn token."""

    prompt: list[int]
    completion: list[int]

    @property
    def row(self) -> dict[str, list[int]]:
        """The row of a tokenized dataset for SFTTrainer, with the loss on the completion only."""
        labels = [IGNORED] * len(self.prompt) + self.completion
        return {"input_ids": self.prompt + self.completion, "labels": labels}


class Encoder:
    """Encodes prompts and examples for one tokenizer and one profile.

    With `only_scores` the loss is on what a judgement decides; the text before it counts as prompt. That is
    the number of the best response if the text has the profile's comparison, where it ends; else the scores.

    A completion with thinking is learned with it, in the tags of its model, so that training does not turn
    the thinking off. One without is learned after a prompt that turns the thinking off or has ended it.
    """

    def __init__(
        self, tokenizer: Any, profile: Profile, eos_token_ids: Sequence[int], only_scores: bool = False
    ) -> None:
        self.tokenizer, self.profile, self.only_scores = tokenizer, profile, only_scores
        self.end = _end_of_turn(tokenizer, eos_token_ids)
        self._control, self._template = control_tokens(tokenizer), chat_template(tokenizer)

    def prompt(self, item: Item, order: Sequence[int]) -> Prompt:
        """Return the judging prompt, with the profile's opening as the start of the answer."""
        responses = [item.responses[i] for i in order]
        prompt = render(self.profile, item.messages, responses, control_tokens=self._control)
        return replace(prompt, continuation=self.profile.opening)

    def rendered(self, prompt: Prompt, thinks: bool = True) -> Rendered:
        """Return the prompt's text with the profile's settings for thinking, or with the thinking off."""
        settings = self.profile.thinking
        tokens = settings.tokens if thinks else 0
        fields = settings.request_fields(tokens)
        return self._template.render(prompt, Params(1, thinking_tokens=tokens, request_fields=fields))

    def example(self, example: Example) -> Tokens | None:
        """Return the tokens of an example, None if its text does not begin with the profile's opening.

        Text after the scores is cut off.
        """
        text, opening = example.trajectory.text, self.profile.opening
        if not text.startswith(opening):
            return None
        box = parse.find_box(text, self.profile)
        prompt, thinking = self.prompt(example.item, example.trajectory.order), example.trajectory.thinking
        if thinking is not None:  # it comes before the opening
            prompt, opening = replace(prompt, continuation=""), ""
        if self.only_scores and (span := parse.compared(text, self.profile)) is not None:
            answer, decided = text[len(opening) : span[1]], span[1] - span[0]
            return self._tokens(prompt, thinking, answer, decided, ends=False)
        answer, decided = text[len(opening) : box.end()], box.end() - box.start(1)
        return self._tokens(prompt, thinking, answer, decided if self.only_scores else None)

    def instruction(self, turns: Turns) -> Tokens:
        """Return the tokens of a general instruction and its answer."""
        prompt, text = Prompt(tuple(turns[:-1])), turns[-1].content
        thinking, answer = split_thinking(text, self.profile.thinking.tags)
        if thinking is not None and thinking.cut:  # the answer mentions a tag
            thinking, answer = None, text
        return self._tokens(prompt, thinking, answer)

    def _tokens(
        self,
        prompt: Prompt,
        thinking: Thinking | None,
        answer: str,
        decided: int | None = None,
        ends: bool = True,
    ) -> Tokens:
        """Return the tokens; with `decided`, those before that many last characters count as prompt.

        `ends`: the turn ends behind the answer.
        """
        rendered = self.rendered(prompt, thinks=thinking is not None)
        before, completion = rendered.text, rendered.written(thinking, answer)
        if thinking is None:
            before, completion = before + completion.removesuffix(answer), answer
        encoded = self.tokenizer(
            completion, add_special_tokens=False, return_offsets_mapping=decided is not None
        )
        ids, loss_from = encoded["input_ids"] + [self.end] * ends, len(completion) - (decided or 0)
        split = sum(end <= loss_from for _, end in encoded.get("offset_mapping", ()))
        return Tokens(encode(self.tokenizer, before) + ids[:split], ids[split:])


def encode_all(
    encoder: Encoder, examples: Iterable[Example], instructions: Iterable[Turns], max_length: int, seed: int
) -> tuple[list[Tokens], Counter[str]]:
    """Return all rows in random order, and the number left out, by reason.

    Rows of more than `max_length` tokens are left out: truncation would cut off the scores.
    """
    rows, left_out = list[Tokens](), Counter[str]()
    for tokens in (*map(encoder.example, examples), *map(encoder.instruction, instructions)):
        if tokens is None:
            left_out["not_opened"] += 1
        elif len(tokens.prompt) + len(tokens.completion) > max_length:
            left_out["too_long"] += 1
        else:
            rows.append(tokens)
    random.Random(seed).shuffle(rows)
    return rows, left_out


def _end_of_turn(tokenizer: Any, eos_token_ids: Sequence[int]) -> int:
    """Return the first of the model's EOS tokens that its chat template puts after an answer."""
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "answer"}]
    text = str(tokenizer.apply_chat_template(turns, tokenize=False)).rpartition("answer")[2]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return next((token for token in ids if token in eos_token_ids), eos_token_ids[0])
