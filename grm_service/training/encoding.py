"""Examples as tokens: exactly those that the engine is fed when the judge serves, and those to write."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from grm_service.engines.transformers.engine import control_tokens, encode
from grm_service.evaluation.dataset import Item
from grm_service.judging import parse
from grm_service.judging.prompt import render
from grm_service.profiles.profile import Profile
from grm_service.training.instruction_data import Turns
from grm_service.training.rejection_sampling import Example
from grm_service.types import Message, Prompt

IGNORED = -100
"""The label of a token that is read and not learnt."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A prompt and its completion, the end of the turn included."""

    prompt: list[int]
    completion: list[int]

    @property
    def row(self) -> dict[str, list[int]]:
        """As SFTTrainer takes it when nothing is left to prepare: loss on the completion only."""
        labels = [IGNORED] * len(self.prompt) + self.completion
        return {"input_ids": self.prompt + self.completion, "labels": labels}


class Encoder:
    """Encodes for one tokenizer and one profile; `end` is the token that ends a turn.

    With `only_scores` what a judgement has before its scores is read like the prompt, and not learnt.
    """

    def __init__(
        self, tokenizer: Any, profile: Profile, ends: Sequence[int], only_scores: bool = False
    ) -> None:
        self.tokenizer, self.profile, self.only_scores = tokenizer, profile, only_scores
        self.end = _end_of_turn(tokenizer, ends)
        self._control = control_tokens(tokenizer)

    def prompt(self, item: Item, order: Sequence[int]) -> Prompt:
        """What the judge is asked, with the opening that the engine begins its answer with."""
        shown = [item.responses[i] for i in order]
        asked = render(self.profile, item.messages, shown, control_tokens=self._control)
        return replace(asked, continuation=self.profile.opening)

    def example(self, example: Example) -> Tokens | None:
        """None where the text does not begin as the profile has every critique begin.

        What was written behind the scores is left out.
        """
        text, opening = example.trajectory.text, self.profile.opening
        if not text.startswith(opening):
            return None
        box = parse.find_box(text)
        written, scores = text[len(opening) : box.end()], box.start(1) - len(opening)
        asked = self.prompt(example.item, example.trajectory.order)
        return self._tokens(asked, written, scores if self.only_scores else 0)

    def general(self, turns: Turns) -> Tokens:
        """An instruction and its answer, which have nothing to do with judging."""
        asked = Prompt(tuple(Message(turn.role, turn.content) for turn in turns[:-1]))
        return self._tokens(asked, turns[-1].content)

    def _tokens(self, prompt: Prompt, written: str, learnt: int = 0) -> Tokens:
        """`learnt` is the character of what is written with which learning begins."""
        encoded = self.tokenizer(written, add_special_tokens=False, return_offsets_mapping=learnt > 0)
        completion = [*encoded["input_ids"], self.end]
        given = sum(end <= learnt for _, end in encoded.get("offset_mapping", ()))
        return Tokens(encode(self.tokenizer, prompt) + completion[:given], completion[given:])


def dataset(
    encoder: Encoder, examples: Iterable[Example], general: Iterable[Turns], longest: int, seed: int
) -> tuple[list[Tokens], Counter[str]]:
    """All in a drawn order, and how many were left out, by reason: nothing is cut."""
    found, left_out = list[Tokens](), Counter[str]()
    for tokens in (*map(encoder.example, examples), *map(encoder.general, general)):
        if tokens is None:
            left_out["not_opened"] += 1
        elif len(tokens.prompt) + len(tokens.completion) > longest:
            left_out["too_long"] += 1
        else:
            found.append(tokens)
    random.Random(seed).shuffle(found)
    return found, left_out


def _end_of_turn(tokenizer: Any, ends: Sequence[int]) -> int:
    """The first of the model's ends that its template puts behind an answer."""
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "answer"}]
    text = str(tokenizer.apply_chat_template(turns, tokenize=False)).rpartition("answer")[2]
    written = tokenizer(text, add_special_tokens=False)["input_ids"]
    return next((token for token in written if token in ends), ends[0])
