r"""Rendering: a task, an order and a profile become the messages that the model sees.

Queries, responses, references and callers' principles are data. Before they go into the prompt,
`neutralise` breaks what could act as control in them by one inserted space: control tokens of chat
templates (`<|im_end|>` -> `< |im_end|>`), the prompt's own markers, and `\boxed{`, so that a critique
which quotes a response cannot carry that response's scores (`\boxed {4}` still reads the same in LaTeX).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from grm_service.profiles.profile import PLACEHOLDER, Profile, fill
from grm_service.types import Message, Principle, PrincipleMode, Prompt

# What the chat templates of the usual families read as control, for engines that cannot tell their own.
_CONTROL = (
    r"<[|｜][^<>\s]{1,64}[|｜]>",
    r"</?s>|<[be]os>|</?think>",
    r"<(?:start|end)_of_turn>",
    r"\[/?(?:INST|SYSTEM_PROMPT)\]|<</?SYS>>",
)
_BOX = r"\\boxed\{"

_GRADING = """Please score the responses.

#### Conversation Context ####
{{conversation}}

#### Responses to be Scored ####
{{responses}}"""
"""What a meta RM reads before a judgement (as the paper's does); turns and responses are the profile's."""

_LEADING_BLOCKS = re.compile(rf"^(?:{PLACEHOLDER.pattern})+")

Clean = Callable[[str], str]


def render(
    profile: Profile,
    messages: Sequence[Message],
    shown: Sequence[str],
    mode: PrincipleMode = "self",
    principles: Sequence[Principle] = (),
    reference: str | None = None,
    control_tokens: tuple[str, ...] = (),
) -> Prompt:
    """The judging prompt; `shown` are the responses in the order that the model is to see.

    `principles` are the standard itself (modes "fixed" and "query", where they were written before) or
    stand above the self-written ones (mode "self").
    """
    template, clean = profile.prompt, neutraliser(profile, control_tokens)
    block = template.constitution if mode == "self" else template.fixed
    values = {
        "conversation": _conversation(profile, messages, clean),
        "responses": _responses(profile, shown, clean),
        "principles": fill(block, {"items": _listed(principles, clean)}) if principles else "",
        "reference": fill(template.reference, {"content": clean(reference)}) if reference is not None else "",
        "n": str(len(shown)),
        "boxed": boxed(len(shown)),
    }
    return _prompt(profile, messages, fill(template.judge, values))


def judgement(
    profile: Profile,
    messages: Sequence[Message],
    shown: Sequence[str],
    written: str,
    control_tokens: tuple[str, ...] = (),
) -> tuple[Message, Message]:
    """What a meta RM grades: the responses in the order that the judge saw, and all that it wrote of them.

    What the judge wrote stays as it is, but for what a chat template would read as control.
    """
    clean = _grading_neutraliser(profile, control_tokens)
    values = {
        "conversation": _conversation(profile, messages, clean),
        "responses": _responses(profile, shown, clean),
    }
    said = chat_neutraliser((*control_tokens, *profile.control_tokens))(written)
    return Message("user", fill(_GRADING, values)), Message("assistant", said)


def render_query(
    profile: Profile,
    messages: Sequence[Message],
    constitution: Sequence[Principle] = (),
    control_tokens: tuple[str, ...] = (),
) -> Prompt:
    """The prompt that asks for principles from the query alone (IP-GRM, arXiv 2602.10019)."""
    clean = neutraliser(profile, control_tokens)
    block = fill(profile.prompt.constitution, {"items": _listed(constitution, clean)}) if constitution else ""
    values = {"conversation": _conversation(profile, messages, clean), "constitution": block}
    return _prompt(profile, messages, fill(profile.prompt.query, values))


def boxed(n: int) -> str:
    """What stands in the box of the format line: one x a response."""
    return ", ".join(["x"] * n)


def _prompt(profile: Profile, asked: Sequence[Message], user: str) -> Prompt:
    system = (Message("system", profile.prompt.system),) if profile.prompt.system else ()
    group = hashlib.sha256(repr(tuple(asked)).encode()).hexdigest()
    return Prompt((*system, Message("user", user.strip())), group=group)


def _conversation(profile: Profile, messages: Sequence[Message], clean: Clean) -> str:
    turns = [fill(profile.prompt.turn, {"role": m.role, "content": clean(m.content)}) for m in messages]
    return "\n".join(turns)


def _responses(profile: Profile, shown: Sequence[str], clean: Clean) -> str:
    numbered = (
        fill(profile.prompt.response, {"i": str(i), "content": clean(text)})
        for i, text in enumerate(shown, 1)
    )
    return "\n".join(numbered)


def _listed(principles: Sequence[Principle], clean: Clean) -> str:
    return "\n".join(
        f"{i}. {clean(p.text)}" + (f" (Weight: {p.weight:.0%})" if p.weight is not None else "")
        for i, p in enumerate(principles, 1)
    )


@lru_cache(maxsize=64)
def neutraliser(profile: Profile, control_tokens: tuple[str, ...] = ()) -> Clean:
    """A function that breaks, by one space, whatever in a text could act on the model or the parser."""
    return _breaker(_acting(profile, control_tokens))


@lru_cache(maxsize=64)
def _grading_neutraliser(profile: Profile, control_tokens: tuple[str, ...]) -> Clean:
    """The same for what a meta RM reads, which has headings of its own."""
    headings = [_marker(line) for line in _GRADING.splitlines() if line.startswith("#")]
    return _breaker((*_acting(profile, control_tokens), *headings))


@lru_cache(maxsize=64)
def chat_neutraliser(control_tokens: tuple[str, ...] = ()) -> Clean:
    """The same for plain chat, where only a template's control tokens act."""
    return _breaker((*_exact(control_tokens), *_CONTROL))


def _acting(profile: Profile, control_tokens: tuple[str, ...]) -> tuple[str, ...]:
    return (_BOX, *_exact((*control_tokens, *profile.control_tokens)), *_CONTROL, *_markers(profile))


def _exact(control_tokens: tuple[str, ...]) -> list[str]:
    # A token of one character cannot be broken by a space; no chat template uses one.
    return [re.escape(token) for token in control_tokens if len(token) > 1]


def _breaker(patterns: tuple[str, ...]) -> Clean:
    acting = re.compile("|".join(patterns), re.IGNORECASE)

    def clean(text: str) -> str:
        # Breaking one match can uncover another that overlaps it, so repeat until none is left.
        while (broken := acting.sub(_break, text)) != text:
            text = broken
        return text

    return clean


def _break(found: re.Match[str]) -> str:
    text = found[0]
    at = text.index("{") if text.startswith("\\") else 1
    return f"{text[:at]} {text[at:]}"


def _markers(profile: Profile) -> list[str]:
    """Patterns of the lines with which the profile's own templates open and close their sections."""
    template = profile.prompt
    texts = (template.judge, template.turn, template.response, template.reference, template.fixed)
    lines = {line for text in (*texts, template.constitution, template.query) for line in text.splitlines()}
    # A block that may be empty stands before its neighbour's heading on the same line.
    starts = {_LEADING_BLOCKS.sub("", line).strip() for line in lines}
    return [_marker(line) for line in sorted(starts) if line.startswith(("##", "["))]


def _marker(line: str) -> str:
    line = re.split(r"\{\{\s*(?:content|items)\s*\}\}", line)[0].rstrip()
    literals = [re.sub(r"(?:\\ )+", r"\\s+", re.escape(part)) for part in PLACEHOLDER.split(line)[::2]]
    return r"\w{1,16}".join(literals)
