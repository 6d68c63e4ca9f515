"""Capabilities of an OpenAI-compatible server: its features beyond the standard, and the body of a request.

vLLM, SGLang and llama.cpp's server all continue a partial assistant message, enforce a regex or grammar and
return top logprobs, but with different request fields. capability_checks.py finds out which a server has.
SGLang's fields come from its source and are untested.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from grm_service.engines.base import THINKING_TOKENS, Abilities, ThinkingBehavior
from grm_service.thinking import join_thinking
from grm_service.types import Params, Prompt

Fields = Mapping[str, Any]
RegexFields = Callable[[str], Fields]

# By default, llama.cpp's server applies top_k 40 and a min_p, and vLLM and SGLang apply the sampling defaults
# of the model's generation_config.json. Samples must come from the model's full distribution. top_k is -1,
# not 0, because SGLang rejects 0.
FULL_DISTRIBUTION: Fields = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
CONTINUE_FINAL_MESSAGE: Fields = {"continue_final_message": True, "add_generation_prompt": False}


def structured_outputs(regex: str) -> Fields:
    """Return the fields of a regex for vLLM."""
    return {"structured_outputs": {"regex": regex}}


def bare_regex(regex: str) -> Fields:
    """Return the fields of a regex for SGLang."""
    return {"regex": regex}


def grammar(regex: str) -> Fields:
    """Return the fields of a regex for llama.cpp's server: a grammar, or none if it cannot be translated."""
    translated = to_gbnf(regex)
    return {} if translated is None else {"grammar": translated}


_PIECE = re.compile(
    r"\\[\Wn]|\[\^?(?:[^\]\\]|\\n)+\]|[*+?](?![*+?])|\{\d+(?:,\d*)?\}|\((?!\?)|[)|]|[^\\\[\](){}*+?|.^$]"
)


def to_gbnf(regex: str) -> str | None:
    """Translate a regex of literals, classes, groups, alternatives and repetitions to GBNF.

    Returns None for any other regex. GBNF is the grammar format of llama.cpp.
    """
    pieces = _PIECE.findall(regex)
    if "".join(pieces) != regex:
        return None
    return "root ::= " + " ".join(_gbnf_literal(piece) or piece for piece in pieces)


def _gbnf_literal(piece: str) -> str | None:
    is_literal = piece.startswith("\\") or (len(piece) == 1 and piece not in "*+?()|")
    character = "\n" if piece == r"\n" else piece[-1]
    return json.dumps(character, ensure_ascii=False) if is_literal else None


_NO_THINKING = ThinkingBehavior()


@dataclass(frozen=True, slots=True)
class ServerCapabilities:
    """The non-standard request fields that a server supports; None if a feature does not work.

    `echoes_continuation`: the completion repeats the continuation before the new text. `thinking_off` turns
    the thinking off. `thinking_in` is where the thinking before a continuation is sent: in its tags in the
    content, or in the reasoning fields of the assistant's message.
    """

    full_distribution: Fields = field(default_factory=dict)
    continuation: Fields | None = None
    echoes_continuation: bool = False
    regex: RegexFields | None = None
    logprobs: bool = False
    thinking: ThinkingBehavior = _NO_THINKING
    thinking_off: Fields | None = None
    thinking_in: Literal["content", "fields"] | None = None

    @property
    def abilities(self) -> Abilities:
        return Abilities(
            continues=self.continuation is not None,
            constrains=self.regex is not None,
            alternatives=self.logprobs,
            continues_thinking=self.thinking_in is not None,
        )

    def thinking_room(self, prompt: Prompt, params: Params) -> int:
        """Return the most tokens of thinking, 0 if the answer has begun."""
        if is_continued(prompt):
            return 0
        if params.thinking_tokens is None:
            return THINKING_TOKENS if self.thinking.thinks else 0
        return params.thinking_tokens

    def request_body(self, prompt: Prompt, params: Params) -> dict[str, Any]:
        """Return the request for a completion; a regex or logprobs that the server lacks are left out."""
        body: dict[str, Any] = {
            "messages": [{"role": m.role, "content": m.content} for m in prompt.messages],
            "max_tokens": params.max_tokens + self.thinking_room(prompt, params),
            "temperature": params.temperature,
            "top_p": params.top_p if params.temperature else 1.0,  # Mistral refuses others if greedy
            "seed": params.seed,
            **self.full_distribution,
        }
        if params.regex is not None and self.regex is not None:
            body |= self.regex(params.regex)
        if params.alternatives and self.logprobs:
            # SGLang applies the temperature to logprobs. Soft scores sample greedily, where they are the
            # model's own.
            body |= {"logprobs": True, "top_logprobs": params.alternatives}
        if params.thinking_tokens == 0 and not params.request_fields:
            _add(body, self.thinking_off or {})
        _add(body, params.request_fields)
        if is_continued(prompt):  # with the fields that passed the check, whatever the profile sets
            body["messages"].append(self._partial_answer(prompt))
            _add(body, self.continuation or {})
        return body

    def _partial_answer(self, prompt: Prompt) -> dict[str, Any]:
        if prompt.thinking is not None and self.thinking_in == "fields":
            thought = prompt.thinking.text
            return {
                "role": "assistant",
                "content": prompt.continuation,
                "reasoning_content": thought,  # SGLang, llama.cpp, older vLLM
                "reasoning": thought,  # vLLM
            }
        return {"role": "assistant", "content": join_thinking(prompt.thinking, prompt.continuation)}


def is_continued(prompt: Prompt) -> bool:
    """Return whether the assistant's answer has begun."""
    return bool(prompt.continuation) or prompt.thinking is not None


def _add(body: dict[str, Any], fields: Fields) -> None:
    """Add fields to a body; an object such as chat_template_kwargs is merged with the one that is there."""
    for name, value in fields.items():
        present = body.get(name)
        if isinstance(present, Mapping) and isinstance(value, Mapping):
            value = {**present, **value}
        body[name] = value


STANDARD = ServerCapabilities()
VLLM = ServerCapabilities(
    FULL_DISTRIBUTION, CONTINUE_FINAL_MESSAGE, False, structured_outputs, True, thinking_in="content"
)
