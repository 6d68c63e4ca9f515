"""Where completions enter: valid text, and the thinking apart from the answer.

Judges, baselines, principles and policy drafts all complete their prompts here.
"""

from __future__ import annotations

import re
from dataclasses import replace

from grm_service.concurrency import off_the_loop
from grm_service.engines.base import THINKING_TOKENS, Engine, ThinkingBehavior
from grm_service.errors import EngineError
from grm_service.profiles.profile import ThinkingSettings
from grm_service.thinking import split_thinking
from grm_service.types import Completion, Params, Prompt, Thinking

_MAX_CHARS = 2**20
"""More characters than the most tokens of a request, 163,840 with thinking, have in any language."""


async def complete(
    engine: Engine, prompt: Prompt, params: Params, settings: ThinkingSettings = ThinkingSettings()
) -> Completion:
    """Return a completion with its thinking apart from its text, both valid Unicode without NUL.

    `settings` are the profile's. Raises the engine's errors, and EngineError for a text that is too long.
    """
    completion = await engine.complete(prompt, params)
    length = len(completion.text) + (len(completion.thinking.text) if completion.thinking else 0)
    if length > _MAX_CHARS:
        raise EngineError(f"the completion has {length} characters, and at most {_MAX_CHARS} are read")
    continued = bool(prompt.continuation)
    return await off_the_loop(length, _separated, completion, continued, params, engine.thinking, settings)


def _separated(
    completion: Completion,
    continued: bool,
    params: Params,
    behavior: ThinkingBehavior,
    settings: ThinkingSettings,
) -> Completion:
    """Return a completion, which may be `continued` from a partial answer, with its thinking apart."""
    thinking, answer = completion.thinking, _valid_text(completion.text)
    if thinking is not None:
        thinking = replace(thinking, text=_valid_text(thinking.text).strip())
        thinking, answer = _without_repetition(thinking, answer)
    opened = not continued and _begins_in_thinking(behavior, completion, params, settings)
    inline, answer = split_thinking(answer, settings.tags, opened)
    if thinking is not None and inline is not None:
        # A reasoning parser with other tags than the model's leaves part of the thinking in the text.
        texts = [thinking.text] if inline.text in thinking.text else [thinking.text, inline.text]
        thinking = replace(inline, text="\n\n".join(filter(None, texts)), cut=thinking.cut or inline.cut)
    return replace(completion, text=answer, thinking=thinking or inline)


def without_thinking(engine: Engine, params: Params, settings: ThinkingSettings) -> Params | None:
    """Return the parameters with the thinking turned off, None if neither engine nor profile can do that."""
    if not (engine.thinking.can_disable or settings.off):
        return None
    return replace(params, thinking_tokens=0, request_fields=settings.request_fields(0))


def with_thinking_room(engine: Engine, params: Params, settings: ThinkingSettings) -> Params:
    """Return the parameters with at least the default number of tokens for thinking."""
    if params.thinking_tokens is not None and params.thinking_tokens >= THINKING_TOKENS:
        return params
    # An engine that knows that the model thinks reduces its own default to what its context holds.
    tokens = THINKING_TOKENS if engine.thinking.thinks is None else None
    return replace(params, thinking_tokens=tokens, request_fields=settings.request_fields(tokens))


def to_get_an_answer(engine: Engine, params: Params, settings: ThinkingSettings) -> Params:
    """Return the parameters to repeat a completion that was cut in its thinking: without it, or with room."""
    return without_thinking(engine, params, settings) or with_thinking_room(engine, params, settings)


def _begins_in_thinking(
    behavior: ThinkingBehavior, completion: Completion, params: Params, settings: ThinkingSettings
) -> bool:
    """Return whether a completion without tags is thinking that was cut off."""
    if completion.thinking is not None:
        return False
    turned_off = params.thinking_tokens == 0
    if turned_off and behavior.can_disable:
        return False
    # A model that thinks may omit it, but not if it was cut off: a text that ends without an answer is more
    # likely thinking, whose start tag the server removed or which its reasoning parser did not recognize, or
    # which the profile's fields did not turn off.
    was_cut = completion.finish_reason == "length"
    opened = behavior.thinks != "field" and (behavior.opened or settings.opened)
    return (opened and not turned_off) or (behavior.thinks is not None and was_cut)


def _without_repetition(thinking: Thinking, answer: str) -> tuple[Thinking, str]:
    """Return thinking from a field of its own and the answer, which some servers begin with the thinking."""
    start, repeated, rest = answer.lstrip().partition(thinking.text)
    if not thinking.text or start or not repeated or re.match(r"\w", rest):
        return thinking, answer
    return replace(thinking, cut=thinking.cut or not rest.strip()), rest.lstrip()


def _valid_text(text: str) -> str:
    # A surrogate pair is a character, a lone surrogate is not: it can be neither sent nor stored.
    return text.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
