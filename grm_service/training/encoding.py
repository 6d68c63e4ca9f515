"""Training examples as token ids, with the same prompt tokens that the engine gets in serving."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from grm_service.engines.transformers.engine import control_tokens, encode_prompt
from grm_service.evaluation.dataset import Item
from grm_service.judging import parse
from grm_service.judging.prompt import render
from grm_service.profiles.profile import Profile
from grm_service.row_values import Turns
from grm_service.training.rejection_sampling import Example
from grm_service.types import Message, Prompt

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

    With `only_scores` the loss is on the scores of a judgement only: the text before them counts as prompt.
    """

    def __init__(
        self, tokenizer: Any, profile: Profile, eos_token_ids: Sequence[int], only_scores: bool = False
    ) -> None:
        self.tokenizer, self.profile, self.only_scores = tokenizer, profile, only_scores
        self.end = _end_of_turn(tokenizer, eos_token_ids)
        self._control = control_tokens(tokenizer)

    def prompt(self, item: Item, order: Sequence[int]) -> Prompt:
        """Return the judging prompt, with the profile's opening as the start of the answer."""
        responses = [item.responses[i] for i in order]
        prompt = render(self.profile, item.messages, responses, control_tokens=self._control)
        return replace(prompt, continuation=self.profile.opening)

    def example(self, example: Example) -> Tokens | None:
        """Return the tokens of an example, None if its text does not begin with the profile's opening.

        Text after the scores is cut off.
        """
        text, opening = example.trajectory.text, self.profile.opening
        if not text.startswith(opening):
            return None
        box = parse.find_box(text, self.profile)
        completion, scores_at = text[len(opening) : box.end()], box.start(1) - len(opening)
        prompt = self.prompt(example.item, example.trajectory.order)
        return self._tokens(prompt, completion, scores_at if self.only_scores else 0)

    def instruction(self, turns: Turns) -> Tokens:
        """Return the tokens of a general instruction and its answer."""
        prompt = Prompt(tuple(Message(turn.role, turn.content) for turn in turns[:-1]))
        return self._tokens(prompt, turns[-1].content)

    def _tokens(self, prompt: Prompt, completion: str, loss_from: int = 0) -> Tokens:
        """Return the tokens; those that end before the character `loss_from` count as prompt."""
        encoded = self.tokenizer(completion, add_special_tokens=False, return_offsets_mapping=loss_from > 0)
        ids = [*encoded["input_ids"], self.end]
        split = sum(end <= loss_from for _, end in encoded.get("offset_mapping", ()))
        return Tokens(encode_prompt(self.tokenizer, prompt) + ids[:split], ids[split:])


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
