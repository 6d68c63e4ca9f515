"""The policy's prompts: the conversation itself, or a draft to be revised by the judge's critiques."""

from __future__ import annotations

import re
from collections.abc import Sequence

from grm_service.content import block
from grm_service.judging.neutralising import chat_neutraliser
from grm_service.profiles.profile import fill
from grm_service.types import TOOL_ROLES, Message, Prompt, Sample

_RESPONSE_NUMBER = re.compile(r"\b[Rr]esponse (\d+)\b")
_MAX_CRITIQUES = 4
_REVIEW = "Review {{i}}:\n{{content}}"
_REVISE = """Reviewers compared your answer with others. This is what they wrote of it:

{reviews}

Write your answer again. Keep what is right, correct what they found wrong, add what they found missing, and
make it no longer than it has to be. Write only the answer itself: no word of reviews or changes."""


def draft_prompt(messages: Sequence[Message], control_tokens: tuple[str, ...]) -> Prompt:
    """Return the conversation as a prompt, with `control_tokens` in its texts neutralised.

    Every server knows the roles system, user and assistant, but not all know more: a tool's turn becomes a
    block in the user's, a developer's turn the system's.
    """
    neutralise = chat_neutraliser(control_tokens)
    turns = map(_to_known_role, messages)
    return Prompt(tuple(Message(turn.role, neutralise(turn.content)) for turn in turns))


def _to_known_role(turn: Message) -> Message:
    if turn.role in TOOL_ROLES:
        return Message("user", block("tool result", turn.content))
    return Message("system", turn.content) if turn.role == "developer" else turn


def revision_prompt(
    messages: Sequence[Message],
    draft: str,
    response: int,
    critiques: Sequence[Sample],
    control_tokens: tuple[str, ...],
) -> Prompt:
    """Return the conversation with the draft and its reviews, as a prompt.

    `response` is the draft's index among the responses that the critiques compare.
    """
    neutralise = chat_neutraliser(control_tokens)
    clean = chat_neutraliser(control_tokens, block=_REVIEW)
    reviews = "\n\n".join(
        fill(_REVIEW, {"i": str(i), "content": clean(_review(each, response))})
        for i, each in enumerate(critiques, 1)
    )
    return Prompt(
        (
            *draft_prompt(messages, control_tokens).messages,
            Message("assistant", neutralise(draft)),
            Message("user", _REVISE.format(reviews=reviews)),
        )
    )


def deal_critiques(critiques: Sequence[Sample], revision: int, revisions: int) -> list[Sample]:
    """Return the critiques for one of several revisions: every `revisions`-th, at most four.

    Different critiques make the revisions differ and keep the prompts short. If there are fewer critiques
    than revisions, some revisions share one.
    """
    dealt = critiques[revision::revisions] or [critiques[revision % len(critiques)]]
    return list(dealt[:_MAX_CRITIQUES])


def _review(sample: Sample, response: int) -> str:
    assert sample.critique is not None
    position = sample.order.index(response) + 1

    def rename(match: re.Match[str]) -> str:
        # The number is a position in the judge's prompt, which the policy has not seen.
        return "your answer" if match[1] == str(position) else "another answer"

    principles = [f"- {principle.text}" for principle in sample.critique.principles]
    return _RESPONSE_NUMBER.sub(rename, "\n".join((*principles, sample.critique.analysis)).strip())
