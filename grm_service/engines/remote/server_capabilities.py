"""Capability checks of an OpenAI-compatible server: its features beyond the standard, and their fields.

vLLM, SGLang and llama.cpp's server all continue a partial assistant message, enforce a regex or grammar and
return top logprobs, but with different request fields. Other servers reject unknown fields or silently ignore
them, so each feature is checked once, at startup, by the text that the server generates, not by whether it
accepts the fields. `make test-vllm` runs this against vLLM and llama.cpp's server. SGLang's fields come from
its source and are untested.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from grm_service.engines.base import Abilities
from grm_service.engines.remote.http_retry import TransientError
from grm_service.errors import BadTask, EngineError, EngineUnreachable
from grm_service.types import Completion, Message, Params, Prompt

Fields = Mapping[str, Any]
RegexFields = Callable[[str], Fields]

# By default, llama.cpp's server applies top_k 40 and a min_p, and vLLM and SGLang apply the sampling defaults
# of the model's generation_config.json. Samples must come from the model's full distribution. top_k is -1,
# not 0, because SGLang rejects 0.
_FULL_DISTRIBUTION: Fields = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
_CONTINUE_FINAL_MESSAGE: Fields = {"continue_final_message": True, "add_generation_prompt": False}


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
    r"\\\W|\[\^?[^\]\\]+\]|[*+?](?![*+?])|\{\d+(?:,\d*)?\}|\((?!\?)|[)|]|[^\\\[\](){}*+?|.^$]"
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
    return json.dumps(piece[-1], ensure_ascii=False) if is_literal else None


@dataclass(frozen=True, slots=True)
class ServerCapabilities:
    """The non-standard request fields that a server supports; None if a feature does not work.

    `echoes_continuation`: the completion repeats the continuation before the new text.
    """

    full_distribution: Fields
    continuation: Fields | None
    echoes_continuation: bool
    regex: RegexFields | None
    logprobs: bool

    @property
    def abilities(self) -> Abilities:
        return Abilities(self.continuation is not None, self.regex is not None, self.logprobs)


STANDARD = ServerCapabilities({}, None, False, None, False)
VLLM = ServerCapabilities(_FULL_DISTRIBUTION, _CONTINUE_FINAL_MESSAGE, False, structured_outputs, True)

Complete = Callable[[Prompt, Params], Awaitable[Completion]]
CompleteWith = Callable[[ServerCapabilities, Prompt, Params], Awaitable[Completion]]
Check = Callable[[Complete, ServerCapabilities], Awaitable[bool]]


async def detect_capabilities(complete: CompleteWith) -> ServerCapabilities:
    """Return the capabilities of the server behind `complete`: for each feature, the first fields that work.

    Raises EngineUnreachable if the server goes away in the meantime.
    """
    capabilities = STANDARD
    for candidates, check in _FEATURES:
        for fields in candidates:
            candidate = replace(capabilities, **fields)
            if await _passes(check, partial(complete, candidate), candidate):
                capabilities = candidate
                break
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


async def _check_accepted(complete: Complete, candidate: ServerCapabilities) -> bool:
    await complete(Prompt((Message("user", "Say: yes"),)), Params(max_tokens=1))
    return True


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
    start = "Scores: \\boxed{" if candidate.continuation is not None else ""
    prompt = Prompt((Message("user", "Which is better, tea or coffee?"),), start)
    completion = await complete(prompt, Params(max_tokens=24, regex=regex))
    return re.fullmatch(regex, completion.text) is not None


async def _check_logprobs(complete: Complete, candidate: ServerCapabilities) -> bool:
    prompt = Prompt((Message("user", "Say: yes"),))
    completion = await complete(prompt, Params(max_tokens=1, alternatives=20))
    return any(len(row) == 20 for row in completion.alternatives)


# In this order: the check of a regex uses the continuation fields detected before it.
_FEATURES: tuple[tuple[tuple[dict[str, Any], ...], Check], ...] = (
    (({"full_distribution": _FULL_DISTRIBUTION},), _check_accepted),
    (
        (
            {"continuation": _CONTINUE_FINAL_MESSAGE},  # vLLM, SGLang
            {"continuation": _CONTINUE_FINAL_MESSAGE, "echoes_continuation": True},  # llama.cpp
            {"continuation": {}},  # older llama.cpp: continues any conversation that ends with the assistant
            {"continuation": {}, "echoes_continuation": True},
        ),
        _check_continuation,
    ),
    (({"regex": structured_outputs}, {"regex": bare_regex}, {"regex": grammar}), _check_regex),
    (({"logprobs": True},), _check_logprobs),
)
