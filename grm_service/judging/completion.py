"""Where completions enter: valid text, and the thinking apart from the answer.

Judges, baselines, principles and policy drafts all complete their prompts here.
"""

from __future__ import annotations

from dataclasses import replace

from grm_service.engines.base import Engine, ThinkingBehavior
from grm_service.profiles.profile import ThinkingSettings
from grm_service.thinking import split_thinking
from grm_service.types import Completion, Params, Prompt


async def complete(
    engine: Engine, prompt: Prompt, params: Params, settings: ThinkingSettings = ThinkingSettings()
) -> Completion:
    """Return a completion with its thinking apart from its text, both valid Unicode without NUL.

    `settings` are the profile's. Raises the engine's errors.
    """
    completion = await engine.complete(prompt, params)
    thinking, answer = completion.thinking, _valid_text(completion.text)
    if thinking is not None:
        thinking = replace(thinking, text=_valid_text(thinking.text))
    opened = not prompt.continuation and _begins_in_thinking(engine.thinking, completion, params, settings)
    inline, answer = split_thinking(answer, settings.tags, opened)
    if thinking is not None and inline is not None:
        # A reasoning parser with other tags than the model's leaves part of the thinking in the text.
        thinking = replace(inline, text=f"{thinking.text}\n\n{inline.text}".strip())
    return replace(completion, text=answer, thinking=thinking or inline)


def without_thinking(engine: Engine, params: Params, settings: ThinkingSettings) -> Params | None:
    """Return the parameters with the thinking turned off, None if neither engine nor profile can do that."""
    if not (engine.thinking.can_disable or settings.off):
        return None
    return replace(params, thinking_tokens=0, request_fields=settings.request_fields(0))


def _begins_in_thinking(
    behavior: ThinkingBehavior, completion: Completion, params: Params, settings: ThinkingSettings
) -> bool:
    """Return whether a completion without tags is thinking that was cut off."""
    if completion.thinking is not None or behavior.thinks == "field":
        return False
    if params.thinking_tokens == 0 and (behavior.can_disable or settings.off):
        return False
    # A model that writes its own start tags may omit the thinking, but not if it was cut off: a text that
    # ends without an answer is more likely thinking whose start tag the server removed.
    was_cut = completion.finish_reason == "length"
    return behavior.opened or settings.opened or (behavior.thinks == "inline" and was_cut)


def _valid_text(text: str) -> str:
    # A surrogate pair is a character, a lone surrogate is not: it can be neither sent nor stored.
    return text.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
