"""Prompts of the embedded engines: rendered in the model's chat template, with room for its thinking."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from grm_service.engines.base import THINKING_TOKENS, ThinkingBehavior, default_room
from grm_service.errors import PromptTooLong
from grm_service.thinking import USUAL_TAGS, Tags, join_thinking, opens_thinking
from grm_service.types import Params, Prompt, Thinking

Render = Callable[[list[dict[str, str]], Mapping[str, Any]], str]
"""Renders messages, up to where the assistant's answer begins, with variables of the template."""
_SWITCHES = ("enable_thinking", "thinking")
"""The variables with which templates turn thinking on (true) and off (false)."""
_TAGS = tuple(tag for pair in USUAL_TAGS for tag in pair)
_NAMES_THINKING = re.compile("think|thought|reason", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rendered:
    """The text that the model continues.

    `opened`: the tags with whose start tag the template ends; what the model then writes belongs after it.
    `room` is the most tokens of thinking; if it `shrinks`, it is a default that a small context reduces.
    """

    text: str
    opened: Tags | None = None
    room: int = 0
    shrinks: bool = False

    @property
    def start_tag(self) -> str:
        """The start tag before the completion, empty if the model writes its own."""
        return self.opened[0] if self.opened else ""

    def written(self, thinking: Thinking | None, answer: str) -> str:
        """Return an answer and the thinking before it as the model writes them after `text`."""
        if self.opened is None:
            return join_thinking(thinking, answer)
        return f"{thinking.text if thinking else ''}\n{self.opened[1]}\n\n{answer}"

    def token_limit(self, size: int, max_tokens: int, capacity: int, what: str) -> int:
        """Return the most tokens to generate after a prompt of `size` tokens, thinking included.

        `what` holds `capacity` tokens. Raises PromptTooLong.
        """
        free = max(0, capacity - size - max_tokens)
        limit = max_tokens + (min(self.room, default_room(free)) if self.shrinks else self.room)
        if size + limit > capacity:
            raise PromptTooLong(size, limit, capacity, what)
        return limit


class ChatTemplate:
    """A model's chat template. `source` is its text.

    `behavior` is what the template shows: the model thinks if the prompt ends in a start tag, or if the
    template knows thinking tags and neither ends in an end tag nor is, by default, the same as with thinking
    turned off. A model that thinks without a trace in its template, by its training or by a system prompt,
    is not recognized: its profile must set the number of tokens (`thinking.tokens`).
    """

    def __init__(self, render: Render, source: str) -> None:
        self._render = render
        self._switch = next((s for s in _SWITCHES if self._probe({s: True}) != self._probe({s: False})), None)
        default, off = self._probe({}), self._probe({self._switch: False}) if self._switch else None
        opened = opens_thinking(default) is not None
        knows_thinking = any(tag in source for tag in _TAGS)
        is_closed = default.rstrip().endswith(tuple(end for _, end in USUAL_TAGS))
        thinks = opened or (knows_thinking and not is_closed and default != off)
        self.behavior = ThinkingBehavior(
            "inline" if thinks else None, opened, off is not None and opens_thinking(off) is None
        )

    def render(self, prompt: Prompt, params: Params) -> Rendered:
        """Return the text for a prompt, whose continuation follows thinking that has ended."""
        messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
        text = self._render(messages, self._variables(params))
        opened = opens_thinking(text, (prompt.thinking.tags,) if prompt.thinking else ())
        if prompt.thinking is not None or prompt.continuation:
            return Rendered(text + Rendered(text, opened).written(prompt.thinking, prompt.continuation))
        if params.thinking_tokens is not None:
            return Rendered(text, opened, params.thinking_tokens)
        thinks = opened is not None or self.behavior.thinks is not None
        return Rendered(text, opened, THINKING_TOKENS if thinks else 0, shrinks=True)

    def _variables(self, params: Params) -> Mapping[str, Any]:
        own: Mapping[str, Any] = params.request_fields.get("chat_template_kwargs", {})
        turned_off = params.thinking_tokens == 0 and self._switch is not None and not own
        return {self._switch: False} if turned_off and self._switch else own

    def _probe(self, variables: Mapping[str, Any]) -> str:
        """Return the prompt of a short conversation, empty if the template refuses it."""
        try:
            return self._render([{"role": "user", "content": "Hello"}], variables)
        except Exception:  # a template may raise anything; the first request then raises it again
            return ""


def is_thinking_tag(token: str) -> bool:
    """Return whether a special token is a thinking tag or part of one, so that decoding must not skip it."""
    return any(token in tag for tag in _TAGS) or _NAMES_THINKING.search(token) is not None


def decode_with_tags(
    tokens: Sequence[int], tags: Mapping[int, str], decode: Callable[[list[int]], str]
) -> str:
    """Return the text of tokens; `tags` are the texts of those that `decode` skips but that must remain."""
    runs = groupby(tokens, key=tags.get)
    return "".join(decode(list(run)) if tag is None else tag * len(list(run)) for tag, run in runs)
