r"""Render prompts: a task, an order and a profile become the messages that the model reads.

Queries, responses, references and callers' principles are data. Before they enter the prompt, a neutraliser
inserts one space into whatever could act as control: control tokens of chat templates (`<|im_end|>` ->
`< |im_end|>`), the prompt's own section markers, and `\boxed{`, so that a critique that quotes a response
cannot pass on scores from inside it (`\boxed {4}` still means the same in LaTeX). Full-width forms count too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

from grm_service.judging.labels import half_width
from grm_service.profiles.profile import PLACEHOLDER, Profile, fill
from grm_service.thinking import USUAL_TAGS
from grm_service.types import Message, Principle, PrincipleMode, Prompt

# Control tokens of common chat templates, for engines that cannot list those of their own model.
_CONTROL = (
    r"<[|｜][^<>\s]{1,64}[|｜]>",
    r"</?s>|<[be]os>",
    r"<(?:start|end)_of_turn>",
    r"\[/?(?:INST|SYSTEM_PROMPT)\]|<</?SYS>>",
    *(re.escape(tag) for tags in USUAL_TAGS for tag in tags),
)
_BOX = r"\\boxed\{"

_GRADING = """Please score the responses.

#### Conversation Context ####
{{conversation}}

#### Responses to be Scored ####
{{responses}}"""
"""The input of a meta RM before the judgement, as in SPCT; the profile's templates fill it."""

_BLOCK = re.compile(
    r"\{\{\s*(?:content|items|conversation|responses|principles|reference|constitution)\s*\}\}"
)
_HEADING = re.compile(r"##|\[|(?:--|\*\*|[^\w\s\"'“”(（{}*+•·>–-]).*[^\W\d_]")
"""A line that stands out by its first character, wherever it is."""
_LONGEST_HEADING = 60
_VALUE = r"\w{1,16}"
_INDEX = r"[ \t]*(?:\d{1,3}|[a-z]\b|[一二三四五六七八九十])"

Clean = Callable[[str], str]


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
    template, clean = profile.prompt, neutraliser(profile, control_tokens)
    block = template.constitution if mode == "self" else template.fixed
    values = {
        "conversation": _conversation(profile, messages, clean),
        "responses": _responses(profile, responses, clean),
        "principles": fill(block, {"items": _listed(principles, clean)}) if principles else "",
        "reference": fill(template.reference, {"content": clean(reference)}) if reference is not None else "",
        "n": str(len(responses)),
        "boxed": boxed(len(responses)),
    }
    return _prompt(profile, messages, fill(template.judge, values))


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
    clean = _grading_neutraliser(profile, control_tokens)
    values = {
        "conversation": _conversation(profile, messages, clean),
        "responses": _responses(profile, responses, clean),
    }
    judgement = chat_neutraliser((*control_tokens, *_profile_tokens(profile)))(completion)
    return Message("user", fill(_GRADING, values)), Message("assistant", judgement)


def render_query(
    profile: Profile,
    messages: Sequence[Message],
    constitution: Sequence[Principle] = (),
    control_tokens: tuple[str, ...] = (),
) -> Prompt:
    """Return the prompt that asks for principles from the query alone (IP-GRM, arXiv 2602.10019)."""
    clean = neutraliser(profile, control_tokens)
    block = fill(profile.prompt.constitution, {"items": _listed(constitution, clean)}) if constitution else ""
    values = {"conversation": _conversation(profile, messages, clean), "constitution": block}
    return _prompt(profile, messages, fill(profile.prompt.query, values))


def boxed(n: int) -> str:
    """Return the content of the box in the format line: one x per response."""
    return ", ".join(["x"] * n)


def _prompt(profile: Profile, query: Sequence[Message], user: str) -> Prompt:
    system = (Message("system", profile.prompt.system),) if profile.prompt.system else ()
    group = hashlib.sha256(repr(tuple(query)).encode()).hexdigest()
    return Prompt((*system, Message("user", user.strip())), group=group)


def _conversation(profile: Profile, messages: Sequence[Message], clean: Clean) -> str:
    turns = [fill(profile.prompt.turn, {"role": m.role, "content": clean(m.content)}) for m in messages]
    return "\n".join(turns)


def _responses(profile: Profile, responses: Sequence[str], clean: Clean) -> str:
    numbered = (
        fill(profile.prompt.response, {"i": str(i), "content": clean(text)})
        for i, text in enumerate(responses, 1)
    )
    return "\n".join(numbered)


def _listed(principles: Sequence[Principle], clean: Clean) -> str:
    return "\n".join(
        f"{i}. {clean(p.text)}" + (f" (Weight: {p.weight:.0%})" if p.weight is not None else "")
        for i, p in enumerate(principles, 1)
    )


@lru_cache(maxsize=64)
def neutraliser(profile: Profile, control_tokens: tuple[str, ...] = ()) -> Clean:
    """Return a function that neutralises what could act on the model or the parser, by one inserted space."""
    return _breaker(_control_patterns(profile, control_tokens))


@lru_cache(maxsize=64)
def _grading_neutraliser(profile: Profile, control_tokens: tuple[str, ...]) -> Clean:
    """Return the same for a meta RM's input, which has headings of its own."""
    headings = [_marker(line) for line in _GRADING.splitlines() if line.startswith("#")]
    return _breaker((*_control_patterns(profile, control_tokens), *headings))


@lru_cache(maxsize=64)
def chat_neutraliser(control_tokens: tuple[str, ...] = ()) -> Clean:
    """Return the same for plain chat, in which only control tokens of the template can act."""
    return _breaker((*_exact(control_tokens), *_CONTROL))


def _profile_tokens(profile: Profile) -> tuple[str, ...]:
    return (*profile.control_tokens, *(tag for tags in profile.thinking.tags for tag in tags))


def _control_patterns(profile: Profile, control_tokens: tuple[str, ...]) -> tuple[str, ...]:
    return (_BOX, *_exact((*control_tokens, *_profile_tokens(profile))), *_CONTROL, *_markers(profile))


def _exact(control_tokens: tuple[str, ...]) -> list[str]:
    # A token of one character cannot be broken by a space; no chat template uses one.
    return [re.escape(half_width(token)) for token in control_tokens if len(token) > 1]


def _breaker(patterns: tuple[str, ...]) -> Clean:
    control = re.compile("|".join(patterns), re.IGNORECASE)

    def clean(text: str) -> str:
        # Breaking one match can expose another that overlaps it, so repeat until none is left.
        while cuts := [at for match in control.finditer(half_width(text)) if (at := _cut(match))]:
            text = " ".join(text[start:end] for start, end in pairwise([0, *cuts, len(text)]))
        return text

    return clean


def _cut(match: re.Match[str]) -> int:
    """Return the place in the text at which a space breaks a match, 0 if none does."""
    if match[0].lower() == "\\boxed{":
        return match.end() - 1
    pair = re.search(r"\S(?=\S)", match[0])
    return match.start() + pair.end() if pair else 0


def _markers(profile: Profile) -> list[str]:
    """Return patterns of the lines that open and close the sections of the profile's own templates."""
    template = profile.prompt
    texts = (template.judge, template.turn, template.response, template.reference, template.fixed)
    patterns: set[str] = set()
    for text in (*texts, template.constitution, template.query):
        lines = [line for line in text.splitlines() if line.strip()]
        for i, line in enumerate(lines):
            near = "\n".join(lines[max(i - 1, 0) : i + 2])
            by_data = text == template.response or _BLOCK.search(near) is not None
            patterns.update(_line_markers(line, by_data))
    return sorted(patterns)


def _line_markers(line: str, by_data: bool) -> Iterator[str]:
    """Yield the patterns of a template's line, without the blocks of data in it.

    Short plain words are a heading if they are next to data; they count at the start of a line only.
    """
    *before_data, last = [part.strip() for part in _BLOCK.split(line)]
    for part, end in [*((part, "") for part in before_data), (last, r"[ \t]*(?m:$)")]:
        if _HEADING.match(part):
            yield _marker(part)
        elif by_data and len(part) <= _LONGEST_HEADING and re.match(r"\w.*[^\W\d_]", part):
            marker = _marker(part, index=_INDEX)
            yield rf"(?m:^)[ \t#*>]*{marker}{'' if _INDEX in marker else end}"


def _marker(line: str, index: str = _VALUE) -> str:
    """Return the pattern of a line; `index` is that of a response's number."""
    literals, names = PLACEHOLDER.split(half_width(line))[::2], PLACEHOLDER.findall(line)
    escaped = [re.sub(r"(?:\\ )+", r"\\s+", re.escape(part)) for part in literals]
    values = [index if name == "i" else _VALUE for name in names]
    return "".join(part + value for part, value in zip(escaped, [*values, ""], strict=True))
