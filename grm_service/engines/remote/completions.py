"""Parse the completion in a reply of any shape, or raise an EngineError that says why there is none."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any, TypeGuard

from grm_service.engines.remote.error_replies import one_line
from grm_service.errors import EngineError, UpstreamRefused
from grm_service.types import Alternative, Completion, FinishReason, Thinking, Usage

_LENGTH = ("length", "max_tokens", "MAX_TOKENS", "model_length", "model_context_window_exceeded")
_GIVEN_UP = ("abort", "error", "insufficient_system_resource", "network_error")
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
_REASONING_PART = re.compile("think|thought|reason", re.IGNORECASE)  # by its type, or the name of its text
_TEXT_FIELDS = ("text", "thinking", "reasoning", "summary", "content")
_MOST_TOKENS = 10**12  # no server counts as many, and larger numbers fit into no database
_ROUNDING = 1e-3  # a logprob of 0 may come out as a little more


class AnswerInReasoning(EngineError):
    """The server takes the whole answer for reasoning."""

    retryable = False


ALL_IN_REASONING = (
    "the server put the whole reply into its reasoning field and left the content empty: a reasoning parser "
    "took the answer for reasoning. Start the server without the parser (vLLM: --reasoning-parser), with the "
    "one of this model, or turn the thinking off in the profile (thinking.off)"
)


def parse_completion(body: Mapping[str, Any], alternatives: int = 0) -> Completion:
    """Return the completion in a reply; `alternatives` is the number of top logprobs that were requested.

    Raises EngineError if the reply has none, UpstreamRefused if the model refused to answer.
    """
    choice = _choice(body)
    reason = choice.get("finish_reason")
    if reason in _GIVEN_UP:
        raise _no_completion(body, f"the server gave up: {reason}")
    message = choice.get("message")
    message = {} if message is None else _mapping(message, "message", body)
    finish: FinishReason = "length" if reason in _LENGTH else "stop"
    text, thought = _content(message.get("content"), body)
    thought = "\n\n".join(filter(None, (thought, _reasoning(message))))
    if message.get("refusal"):
        raise _refused(message["refusal"])
    usage = _mapping(body.get("usage") or {}, "usage", body)
    if not text.strip() and finish == "stop":
        _check_answered(message, thought, body)
    hidden = _count(_details(usage, "completion_tokens_details", body).get("reasoning_tokens"), body)
    return Completion(
        text=text,
        finish_reason=finish,
        usage=Usage(
            prompt_tokens=_count(usage.get("prompt_tokens"), body),
            cached_tokens=_count(_details(usage, "prompt_tokens_details", body).get("cached_tokens"), body),
            completion_tokens=_count(usage.get("completion_tokens"), body),
        ),
        alternatives=_logprobs(choice, alternatives, body) if alternatives else (),
        thinking=Thinking(thought, cut=not text.strip()) if thought or hidden else None,
    )


def _choice(body: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise _no_completion(body, "it has no choices")
    return _mapping(choices[0], "choice", body)


def _content(content: Any, body: Mapping[str, Any]) -> tuple[str, str]:
    """Return the text and the thinking of a message's content: a text, or a list of parts, or nothing."""
    if content is None:
        return "", ""
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        raise _no_completion(body, "content is neither a text nor a list of parts")
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        if isinstance(part, Mapping) and part.get("type") == "refusal":
            raise _refused(part.get("refusal"))
        text = _part_text(part)
        if _is_thought(part):
            thoughts.append(text or "")
        elif text is None:
            raise _no_completion(body, "a part of the content is no text")
        else:
            texts.append(text)
    return "".join(texts), "".join(thoughts)


def _is_thought(part: Any) -> bool:
    """Return whether a part of the content is thinking: by its type, or since it has no other text."""
    if not isinstance(part, Mapping):
        return False
    name = part.get("type") or next((name for name in _TEXT_FIELDS if name in part), "")
    return part.get("thought") is True or (isinstance(name, str) and _REASONING_PART.search(name) is not None)


def _reasoning(message: Mapping[str, Any]) -> str:
    """Return the text of the first reasoning field that has one: a text, or a list of parts."""
    for field in _REASONING_FIELDS:
        value = message.get(field)
        parts = value if isinstance(value, list) else [value] if value is not None else []
        if text := "".join(_part_text(part) or "" for part in parts):
            return text
    return ""


def _part_text(part: Any, nested: bool = False) -> str | None:
    """Return the text of a part, None if it has none: itself, or a field with a text or a list of parts."""
    if isinstance(part, str):
        return part
    for field in _TEXT_FIELDS if isinstance(part, Mapping) else ():
        value = part.get(field)
        if isinstance(value, str):
            return value
        if isinstance(value, list) and not nested:
            return "".join(_part_text(each, nested=True) or "" for each in value)
    return None


def _check_answered(message: Mapping[str, Any], thought: str, body: Mapping[str, Any]) -> None:
    """Raise an error that says why a finished message has neither text nor thinking, if it is not empty."""
    if message.get("tool_calls"):
        raise _no_completion(body, "the model called a tool instead of answering")
    if message.get("content") is None and not thought:
        raise _no_completion(body, "it has no content")


def _count(value: Any, body: Mapping[str, Any]) -> int | None:
    """Return a number of tokens, None if the server does not state it."""
    if value is None:
        return None
    if not _is_number(value) or not 0 <= value <= _MOST_TOKENS or value != int(value):
        raise _no_completion(body, "usage has a number of tokens that cannot be")
    return int(value)


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _details(usage: Mapping[str, Any], name: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(usage.get(name) or {}, name, body)


def _logprobs(
    choice: Mapping[str, Any], most: int, body: Mapping[str, Any]
) -> tuple[tuple[Alternative, ...], ...]:
    rows = _mapping(choice.get("logprobs") or {}, "logprobs", body).get("content") or []
    if not isinstance(rows, list):
        raise _no_completion(body, "logprobs are not a list")
    return tuple(_row(_mapping(row, "logprob", body), most, body) for row in rows)


def _row(position: Mapping[str, Any], most: int, body: Mapping[str, Any]) -> tuple[Alternative, ...]:
    """Return a position's top tokens, the most probable first; vLLM puts the sampled token first.

    At most one more than were requested is returned, since each may lead to a request for those behind it.
    """
    top = position.get("top_logprobs")
    if not isinstance(top, list):
        raise _no_completion(body, "a position has no top_logprobs")
    row = [_alternative(_mapping(each, "top logprob", body), body) for each in top]
    return tuple(sorted(row, key=lambda each: -each.logprob)[: most + 1])


def _alternative(each: Mapping[str, Any], body: Mapping[str, Any]) -> Alternative:
    token, logprob = each.get("token"), each.get("logprob")
    if not isinstance(token, str) or not _is_number(logprob) or not -1e6 <= logprob <= _ROUNDING:
        raise _no_completion(body, "a logprob is not the logarithm of a probability")
    return Alternative(token, min(0.0, float(logprob)))


def _mapping(value: Any, what: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _no_completion(body, f"{what} is not an object")
    return value


def _refused(refusal: Any) -> UpstreamRefused:
    reason = one_line(refusal) if isinstance(refusal, str) else reprlib.repr(refusal)
    return UpstreamRefused("the model refused to answer", reason)


def _no_completion(body: Mapping[str, Any], why: str) -> EngineError:
    # reprlib, because the body may be nested deeper than repr can follow.
    return EngineError(f"the server's reply has no completion ({why})", reprlib.repr(body))
