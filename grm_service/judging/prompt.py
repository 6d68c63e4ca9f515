"""Render prompts: a task, an order and a profile become the messages that the model reads.

Untrusted texts are neutralised once per task (`task_texts`); a prompt then only joins them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from grm_service.judging.neutralising import Clean, chat_neutraliser, neutraliser
from grm_service.profiles.profile import Profile, fill
from grm_service.types import Message, Principle, PrincipleMode, Prompt

_GRADING = """Please score the responses.

#### Conversation Context ####
{{conversation}}

#### Responses to be Scored ####
{{responses}}"""
"""The input of a meta RM before the judgement, as in SPCT; the profile's templates fill it."""


@dataclass(frozen=True, slots=True)
class TaskTexts:
    """The texts of a task in its prompts: neutralised for one profile and model.

    `principles` is their list, empty without any. `group` names the query; prompts of one query share it.
    """

    conversation: str
    responses: tuple[str, ...]
    principles: str
    reference: str | None
    group: str


def task_texts(
    profile: Profile,
    messages: Sequence[Message],
    responses: Sequence[str] = (),
    principles: Sequence[Principle] = (),
    reference: str | None = None,
    control_tokens: tuple[str, ...] = (),
    template: str = "",
) -> TaskTexts:
    """Return the neutralised texts of a task.

    The time grows with the texts, up to seconds for the largest request: run it in a thread in an event loop.
    `control_tokens` are those of the engine's model; `template` is a prompt besides the profile's own.
    """
    clean = neutraliser(profile, control_tokens, template)
    return TaskTexts(
        _conversation(profile, messages, clean),
        tuple(map(clean, responses)),
        _listed(principles, clean),
        clean(reference) if reference is not None else None,
        hashlib.sha256(repr(tuple(messages)).encode()).hexdigest(),
    )


def render(
    profile: Profile,
    messages: Sequence[Message],
    responses: Sequence[str],
    mode: PrincipleMode = "self",
    principles: Sequence[Principle] = (),
    reference: str | None = None,
    control_tokens: tuple[str, ...] = (),
) -> Prompt:
    """Return the judging prompt for the responses in this order.

    `principles` are the criteria themselves (modes "fixed" and "query", which writes them beforehand) or the
    constitution above self-written ones (mode "self"). `control_tokens` are those of the engine's model.
    """
    texts = task_texts(profile, messages, responses, principles, reference, control_tokens)
    return render_order(profile, texts, range(len(responses)), mode)


def render_order(
    profile: Profile, texts: TaskTexts, order: Sequence[int], mode: PrincipleMode = "self"
) -> Prompt:
    """Return the judging prompt that shows the responses of a task in this order."""
    template = profile.prompt
    block = template.constitution if mode == "self" else template.fixed
    values = {
        "conversation": texts.conversation,
        "responses": join_responses(profile, [texts.responses[i] for i in order]),
        "principles": fill(block, {"items": texts.principles}) if texts.principles else "",
        "reference": fill(template.reference, {"content": texts.reference})
        if texts.reference is not None
        else "",
        "n": str(len(order)),
        "boxed": boxed(len(order)),
    }
    return _prompt(profile, texts, fill(template.judge, values))


def grader_texts(
    profile: Profile,
    messages: Sequence[Message],
    responses: Sequence[str],
    control_tokens: tuple[str, ...] = (),
) -> TaskTexts:
    """Return the texts of a task as a meta RM's prompt shows them, which has headings of its own."""
    return task_texts(profile, messages, responses, control_tokens=control_tokens, template=_GRADING)


def render_judgement(
    profile: Profile,
    messages: Sequence[Message],
    responses: Sequence[str],
    completion: str,
    control_tokens: tuple[str, ...] = (),
) -> tuple[Message, Message]:
    """Return what a meta RM grades: the responses in the order of the judging prompt, and the completion.

    In the completion only control tokens of chat templates are neutralised.
    """
    texts = grader_texts(profile, messages, responses, control_tokens)
    return render_judgement_of(profile, texts, range(len(responses)), completion, control_tokens)


def render_judgement_of(
    profile: Profile,
    texts: TaskTexts,
    order: Sequence[int],
    completion: str,
    control_tokens: tuple[str, ...] = (),
) -> tuple[Message, Message]:
    """Return the same for the responses of a task in this order; `texts` come from `grader_texts`."""
    responses = join_responses(profile, [texts.responses[i] for i in order])
    values = {"conversation": texts.conversation, "responses": responses}
    judgement = chat_neutraliser(control_tokens, profile)(completion)
    return Message("user", fill(_GRADING, values)), Message("assistant", judgement)


def render_query(
    profile: Profile,
    messages: Sequence[Message],
    constitution: Sequence[Principle] = (),
    control_tokens: tuple[str, ...] = (),
) -> Prompt:
    """Return the prompt that asks for principles from the query alone (IP-GRM, arXiv 2602.10019)."""
    texts = task_texts(profile, messages, principles=constitution, control_tokens=control_tokens)
    block = fill(profile.prompt.constitution, {"items": texts.principles}) if constitution else ""
    values = {"conversation": texts.conversation, "constitution": block}
    return _prompt(profile, texts, fill(profile.prompt.query, values))


def boxed(n: int) -> str:
    """Return the content of the box in the format line: one x per response."""
    return ", ".join(["x"] * n)


def join_responses(profile: Profile, texts: Sequence[str], labels: Sequence[str] = ()) -> str:
    """Return neutralised responses as the profile's prompts show them, numbered from 1 unless labelled."""
    numbered = zip(labels or map(str, range(1, len(texts) + 1)), texts, strict=True)
    return "\n".join(fill(profile.prompt.response, {"i": label, "content": text}) for label, text in numbered)


def _prompt(profile: Profile, texts: TaskTexts, user: str) -> Prompt:
    system = (Message("system", profile.prompt.system),) if profile.prompt.system else ()
    return Prompt((*system, Message("user", user.strip())), group=texts.group)


def _conversation(profile: Profile, messages: Sequence[Message], clean: Clean) -> str:
    turns = [fill(profile.prompt.turn, {"role": m.role, "content": clean(m.content)}) for m in messages]
    return "\n".join(turns)


def _listed(principles: Sequence[Principle], clean: Clean) -> str:
    # On one line each, so that none can add another.
    return "\n".join(
        f"{i}. {clean(' '.join(p.text.splitlines()))}"
        + (f" (Weight: {p.weight:.0%})" if p.weight is not None else "")
        for i, p in enumerate(principles, 1)
    )
