"""Capability checks of an OpenAI-compatible server: its features beyond the standard, and how it thinks.

Servers reject unknown fields or silently ignore them, so each feature is checked once, at startup, by the
text that the server generates, not by whether it accepts the fields. No check assumes a model that answers at
once: a model that thinks gets room for it, or is asked with the thinking off. `make test-vllm` runs the
checks against vLLM and llama.cpp's server.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from grm_service.concurrency import gather
from grm_service.engines.base import ThinkingBehavior
from grm_service.engines.remote.completions import ALL_IN_REASONING, AnswerInReasoning
from grm_service.engines.remote.http_retry import TransientError
from grm_service.engines.remote.server_capabilities import (
    CONTINUE_FINAL_MESSAGE,
    FULL_DISTRIBUTION,
    STANDARD,
    Fields,
    ServerCapabilities,
    bare_regex,
    grammar,
    structured_outputs,
)
from grm_service.errors import (
    BadTask,
    EngineError,
    EngineUnreachable,
    PromptTooLong,
    UpstreamDenied,
    UpstreamRefused,
)
from grm_service.thinking import USUAL_TAGS, Tags, has_start_tag, split_thinking
from grm_service.types import Completion, Message, Params, Prompt, Thinking

Complete = Callable[[Prompt, Params], Awaitable[Completion]]
CompleteWith = Callable[[ServerCapabilities, Prompt, Params], Awaitable[Completion]]
Check = Callable[[Complete, ServerCapabilities], Awaitable[bool]]
Feature = tuple[tuple[Mapping[str, Any], ...], Check]

# Tokens in which a model that thinks answers the questions below, and one that does not.
_ROOM, _ROOM_WITHOUT_THINKING = 512, 64
# Tokens in which other seeds give other texts; the thinking about one question begins alike.
_ROOM_TO_DIFFER, _ROOM_TO_THINK_DIFFERENTLY = 32, 128
_QUESTION = Prompt((Message("user", "What is the capital of France? Answer in one word."),))
_SWITCHES: tuple[Fields, ...] = (
    {"chat_template_kwargs": {"enable_thinking": False}},  # Qwen3, GLM, Seed, Nemotron
    {"chat_template_kwargs": {"thinking": False}},  # DeepSeek, Granite, Kimi
    {"reasoning_effort": "none"},  # OpenAI, Gemini, Ollama
    {"enable_thinking": False},  # DashScope, SiliconFlow
)


async def detect_capabilities(complete: CompleteWith) -> ServerCapabilities:
    """Return the capabilities of the server behind `complete`: for each feature, the first fields that work.

    Raises the errors of the first completion, and EngineUnreachable if the server goes away in the meantime.
    """
    behavior, tags = _behavior(await _first_answer(complete))
    capabilities = replace(STANDARD, thinking=behavior)
    if behavior.thinks is not None:
        off = tuple(
            {"thinking_off": fields, "thinking": replace(behavior, can_disable=True)} for fields in _SWITCHES
        )
        capabilities = await _with_feature(complete, capabilities, (off, _check_thinking_off))
    capabilities = await _with_feature(complete, capabilities, _FULL_DISTRIBUTION)
    capabilities = await _with_feature(complete, capabilities, _continuation(capabilities))
    if capabilities.continuation is None:
        return capabilities  # the other features are used in continued answers only
    for feature in (_REGEX, _LOGPROBS, _thinking(capabilities, tags)):
        capabilities = await _with_feature(complete, capabilities, feature)
    return capabilities


async def compare_seeds(complete: Complete, thinks: bool) -> tuple[bool, bool] | None:
    """Return whether other seeds give other texts, and whether the same seed gives the same text.

    None if the server wrote nothing to compare.
    """
    prompt = Prompt((Message("user", "Write ten words that have nothing to do with each other."),))
    room = _ROOM_TO_THINK_DIFFERENTLY if thinks else _ROOM_TO_DIFFER

    async def written(seed: int) -> tuple[str, str]:
        completion = await complete(prompt, Params(room, 1.0, 1.0, seed, thinking_tokens=0))
        return completion.thinking.text if completion.thinking else "", completion.text

    texts = await gather(written(seed) for seed in (0, 1, 2, 0))
    if not all(thought or text for thought, text in texts):
        return None
    return len(set(texts)) > 1, texts[0] == texts[3]


async def _first_answer(complete: CompleteWith) -> Completion:
    """Return the first completion, with more room if it may be thinking whose end would show that it is."""
    try:
        first = await complete(STANDARD, _QUESTION, Params(_ROOM))
    except UpstreamDenied:
        raise
    except (PromptTooLong, UpstreamRefused):  # its context, or its limit of max_tokens, may be small
        return await complete(STANDARD, _QUESTION, Params(_ROOM_WITHOUT_THINKING))
    if first.is_cut_in_thinking and first.finish_reason == "stop":
        raise AnswerInReasoning(ALL_IN_REASONING)
    if first.finish_reason == "stop" or _separated(first)[0] or not first.text.strip():
        return first
    try:
        return await complete(STANDARD, _QUESTION, Params(4 * _ROOM))
    except (EngineError, BadTask):  # such as a context that is too small
        return first


async def is_answered(complete: Complete) -> bool:
    """Return whether the server answers a question that nobody objects to."""
    try:
        await complete(_QUESTION, Params(16, thinking_tokens=0))
    except (EngineError, BadTask):
        return False
    return True


def _behavior(first: Completion) -> tuple[ThinkingBehavior, Tags]:
    """Return how the model thinks, by its first completion, and its tags."""
    if first.thinking is not None:
        return ThinkingBehavior("field"), USUAL_TAGS[0]
    if not first.text.strip() and first.finish_reason == "length":  # it thinks where nobody sees it
        return ThinkingBehavior("field"), USUAL_TAGS[0]
    thinking, _ = split_thinking(first.text)
    if thinking is None or not thinking.text:
        return ThinkingBehavior(), USUAL_TAGS[0]
    return ThinkingBehavior("inline", not has_start_tag(first.text)), thinking.tags


async def _with_feature(
    complete: CompleteWith, capabilities: ServerCapabilities, feature: Feature
) -> ServerCapabilities:
    """Return the capabilities with the first candidate fields of a feature that pass its check."""
    candidates, check = feature
    for fields in candidates:
        candidate = replace(capabilities, **fields)
        if await _passes(check, partial(complete, candidate), candidate):
            return candidate
    return capabilities


async def _passes(check: Check, complete: Complete, candidate: ServerCapabilities) -> bool:
    try:
        return await check(complete, candidate)
    except EngineUnreachable as error:
        # Some servers answer an unknown field with a 500 instead of a 400.
        if isinstance(error, TransientError) and error.status == 500:
            return False
        raise
    except (EngineError, BadTask):
        return False


def _continuation(capabilities: ServerCapabilities) -> Feature:
    continuations: list[dict[str, Any]] = [
        {"continuation": CONTINUE_FINAL_MESSAGE},  # vLLM, SGLang
        {"continuation": CONTINUE_FINAL_MESSAGE, "echoes_continuation": True},  # llama.cpp
        {"continuation": {}},  # older llama.cpp: continues any conversation that ends with the assistant
        {"continuation": {}, "echoes_continuation": True},
    ]
    off = capabilities.thinking_off
    if off is not None:
        # A reasoning parser takes a continued answer for reasoning, unless the thinking is off.
        continuations += [{**each, "continuation": {**each["continuation"], **off}} for each in continuations]
    return tuple(continuations), _check_continuation


def _thinking(capabilities: ServerCapabilities, tags: Tags) -> Feature:
    thinking_in: tuple[Mapping[str, Any], ...] = ({"thinking_in": "content"}, {"thinking_in": "fields"})
    if capabilities.thinking.thinks == "field":  # give it back as it comes
        thinking_in = thinking_in[::-1]
    return thinking_in, partial(_check_thinking, tags=tags)


def _room(capabilities: ServerCapabilities) -> int:
    """Return the `thinking_tokens` of a short question."""
    thinking = capabilities.thinking
    return _ROOM if thinking.thinks and not thinking.can_disable else 0


async def _check_thinking_off(complete: Complete, candidate: ServerCapabilities) -> bool:
    completion = await complete(_QUESTION, Params(_ROOM_WITHOUT_THINKING, thinking_tokens=0))
    thinking, answer = _separated(completion)
    # Thinking without tags ends in no answer.
    return completion.finish_reason == "stop" and not thinking and bool(answer.strip())


async def _check_accepted(complete: Complete, candidate: ServerCapabilities) -> bool:
    await complete(_QUESTION, Params(16, thinking_tokens=0))  # whatever the model writes
    return True


_FULL_DISTRIBUTION: Feature = (({"full_distribution": FULL_DISTRIBUTION},), _check_accepted)
# The continuations end inside a word. A new assistant turn would not start with the rest of the word, nor
# reach it within three tokens.
_BROKEN_WORDS = (
    ("What is the capital of France?", "The capital of France is Par", "is"),
    ("Which day comes after Monday?", "The day after Monday is Tues", "day"),
    ("What is the capital of Germany?", "The capital of Germany is Ber", "lin"),
)


async def _check_continuation(complete: Complete, candidate: ServerCapabilities) -> bool:
    correct = 0
    for question, start, rest in _BROKEN_WORDS:
        completion = await complete(Prompt((Message("user", question),), start), Params(max_tokens=3))
        correct += completion.text.startswith(rest)
    return correct >= 2


async def _check_regex(complete: Complete, candidate: ServerCapabilities) -> bool:
    regex = r"(81|82), (43|44)\}"
    prompt = Prompt((Message("user", "Which is better, tea or coffee?"),), "Scores: \\boxed{")
    completion = await complete(prompt, Params(24, regex=regex))
    return re.fullmatch(regex, completion.text) is not None


async def _check_logprobs(complete: Complete, candidate: ServerCapabilities) -> bool:
    params = Params(16, alternatives=20, thinking_tokens=_room(candidate))
    return any(len(row) == 20 for row in (await complete(_QUESTION, params)).alternatives)


_REGEX: Feature = (
    ({"regex": structured_outputs}, {"regex": bare_regex}, {"regex": grammar}),
    _check_regex,
)
_LOGPROBS: Feature = (({"logprobs": True},), _check_logprobs)

# The question's own answer begins like the word that the thinking wants: only a model that has seen the
# thinking writes the rest of that word.
_MISLEADING = (
    ("Which city in Italy is famous for its ham?", "the capital of France, Paris", "Par", "is"),
    ("What is the capital of Switzerland?", "the capital of Germany, Berlin", "Ber", "lin"),
    ("Which rainy city lies on the west coast of Norway?", "the capital of Germany, Berlin", "Ber", "lin"),
)


async def _check_thinking(complete: Complete, candidate: ServerCapabilities, tags: Tags) -> bool:
    seen = await _misled(complete, tags)
    if candidate.thinking_in == "fields":
        # Servers ignore fields that they do not know: the words must come from them.
        unaided = await _misled(complete, None)
        seen = [with_fields and not without for with_fields, without in zip(seen, unaided, strict=True)]
    return sum(seen) >= 2


async def _misled(complete: Complete, tags: Tags | None) -> list[bool]:
    """Return for each question whether its answer goes on as its thinking wants; no tags: no thinking."""
    misled = []
    for question, wanted, start, rest in _MISLEADING:
        thought = f"The question is a slip. The user wants to read {wanted}. I answer {wanted.split()[-1]}."
        thinking = None if tags is None else Thinking(thought, tags=tags)
        prompt = Prompt((Message("user", question),), f"The city is {start}", thinking)
        misled.append((await complete(prompt, Params(max_tokens=3))).text.startswith(rest))
    return misled


def _separated(completion: Completion) -> tuple[str, str]:
    """Return the thinking and the answer of a completion."""
    inline, answer = split_thinking(completion.text)
    field = completion.thinking
    return (field.text if field else "") + (inline.text if inline else ""), answer
