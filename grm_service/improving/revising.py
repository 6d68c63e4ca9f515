"""What the policy is asked: the conversation itself, or an answer again with what critiques said of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from grm_service.judging.prompt import chat_neutraliser
from grm_service.types import Message, Prompt, Sample

_NAMED = re.compile(r"\b[Rr]esponse (\d+)\b")
_MOST_CRITIQUES = 4
_ASK = """Reviewers compared your answer with others. This is what they wrote of it:

{reviews}

Write your answer again. Keep what is right, correct what they found wrong, add what they found missing, and
make it no longer than it has to be. Write only the answer itself: no word of reviews or changes."""


def drafting(messages: Sequence[Message], control_tokens: tuple[str, ...]) -> Prompt:
    """The conversation, as data: what its texts hold cannot open a turn of its own."""
    clean = chat_neutraliser(control_tokens)
    return Prompt(tuple(Message(turn.role, clean(turn.content)) for turn in messages))


def revising(
    messages: Sequence[Message],
    draft: str,
    at: int,
    critiques: Sequence[Sample],
    control_tokens: tuple[str, ...],
) -> Prompt:
    """The conversation, the draft and its reviews; `at` is the draft's index among the judged responses."""
    clean = chat_neutraliser(control_tokens)
    reviews = "\n\n".join(f"Review {i}:\n{_review(each, at)}" for i, each in enumerate(critiques, 1))
    asked = Message("user", _ASK.format(reviews=clean(reviews)))
    return Prompt((*drafting(messages, control_tokens).messages, Message("assistant", clean(draft)), asked))


def dealt(counted: Sequence[Sample], revision: int, revisions: int) -> list[Sample]:
    """The critiques for one of several revisions: dealt in turn, so that these differ and prompts stay short.

    Where there are fewer critiques than revisions, some get the same one.
    """
    hand = counted[revision::revisions] or [counted[revision % len(counted)]]
    return list(hand[:_MOST_CRITIQUES])


def _review(sample: Sample, at: int) -> str:
    assert sample.critique is not None
    place = sample.order.index(at) + 1

    def name(found: re.Match[str]) -> str:
        # The number is a place in a prompt that the policy has not seen.
        return "your answer" if found[1] == str(place) else "another answer"

    principles = [f"- {principle.text}" for principle in sample.critique.principles]
    return _NAMED.sub(name, "\n".join((*principles, sample.critique.analysis)).strip())
