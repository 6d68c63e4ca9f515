"""How a server is told what chat completions have no standard words for, and how to find out.

vLLM, SGLang and llama.cpp's server all continue the assistant's last message, keep a constraint and tell the
likeliest tokens, each by fields of its own; other servers refuse such fields, or ignore them without a word.
So a server is asked once, at the start, and what it answers decides, not what it accepts. `make test-vllm`
runs vLLM and llama.cpp's server; SGLang's fields are from its source and were not run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from grm_service.engines.base import Abilities
from grm_service.engines.remote.upstream import Stumbled
from grm_service.errors import BadTask, EngineError, EngineUnreachable
from grm_service.types import Completion, Message, Params, Prompt

Fields = Mapping[str, Any]
Constraint = Callable[[str], Fields]

# llama.cpp's server cuts to the top 40 and by min_p where nothing is said, and vLLM and SGLang take what the
# model's generation_config.json says: samples must come from the model's own distribution. -1 and not 0:
# SGLang refuses a top_k of 0.
_UNCUT: Fields = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
_CONTINUED: Fields = {"continue_final_message": True, "add_generation_prompt": False}


def structured_outputs(regex: str) -> Fields:
    """A regex for vLLM."""
    return {"structured_outputs": {"regex": regex}}


def bare_regex(regex: str) -> Fields:
    """A regex for SGLang."""
    return {"regex": regex}


def grammar(regex: str) -> Fields:
    """A regex for llama.cpp's server, which has grammars only; nothing where it is not that simple."""
    translated = gbnf(regex)
    return {} if translated is None else {"grammar": translated}


_PIECE = re.compile(
    r"\\\W|\[\^?[^\]\\]+\]|[*+?](?![*+?])|\{\d+(?:,\d*)?\}|\((?!\?)|[)|]|[^\\\[\](){}*+?|.^$]"
)


def gbnf(regex: str) -> str | None:
    """A regex of literals, classes, groups, alternatives and repetition as llama.cpp's grammar, else None."""
    pieces = _PIECE.findall(regex)
    if "".join(pieces) != regex:
        return None
    return "root ::= " + " ".join(_literal(piece) or piece for piece in pieces)


def _literal(piece: str) -> str | None:
    literal = piece.startswith("\\") or (len(piece) == 1 and piece not in "*+?()|")
    return json.dumps(piece[-1], ensure_ascii=False) if literal else None


@dataclass(frozen=True, slots=True)
class ServerCapabilities:
    """What a server is sent beside the standard fields; None where it has nothing that works.

    `repeats`: its answer has the continuation before what it wrote.
    """

    uncut: Fields
    continuing: Fields | None
    repeats: bool
    constraint: Constraint | None
    alternatives: bool

    @property
    def abilities(self) -> Abilities:
        return Abilities(self.continuing is not None, self.constraint is not None, self.alternatives)


STANDARD = ServerCapabilities({}, None, False, None, False)
VLLM = ServerCapabilities(_UNCUT, _CONTINUED, False, structured_outputs, True)

Ask = Callable[[Prompt, Params], Awaitable[Completion]]
Complete = Callable[[ServerCapabilities, Prompt, Params], Awaitable[Completion]]


async def learn(complete: Complete) -> ServerCapabilities:
    """The dialect of the server behind `complete`. Raises EngineUnreachable where it goes away meanwhile."""
    known = STANDARD
    for offers, shown in _LESSONS:
        for offer in offers:
            tried = replace(known, **offer)
            if await _holds(shown, partial(complete, tried), tried):
                known = tried
                break
    return known


async def _holds(
    shown: Callable[[Ask, ServerCapabilities], Awaitable[bool]], ask: Ask, tried: ServerCapabilities
) -> bool:
    try:
        return await shown(ask, tried)
    except EngineUnreachable as failed:
        # Some servers fall over a field that they do not know instead of refusing it.
        if isinstance(failed, Stumbled) and failed.status == 500:
            return False
        raise
    except (EngineError, BadTask):
        return False


async def _answers(ask: Ask, tried: ServerCapabilities) -> bool:
    await ask(Prompt((Message("user", "Say: yes"),)), Params(max_tokens=1))
    return True


# Words broken off inside: a new turn would not begin with their ends, nor reach them in so few tokens.
_BROKEN_OFF = (
    ("What is the capital of France?", "The capital of France is Par", "is"),
    ("Which day comes after Monday?", "The day after Monday is Tues", "day"),
    ("What is the capital of Germany?", "The capital of Germany is Ber", "lin"),
)


async def _continues(ask: Ask, tried: ServerCapabilities) -> bool:
    right = 0
    for question, start, end in _BROKEN_OFF:
        completion = await ask(Prompt((Message("user", question),), start), Params(max_tokens=3))
        right += completion.text.startswith(end)
    return right >= 2


async def _constrains(ask: Ask, tried: ServerCapabilities) -> bool:
    regex = r"(81|82), (43|44)\}"
    start = "Scores: \\boxed{" if tried.continuing is not None else ""
    prompt = Prompt((Message("user", "Which is better, tea or coffee?"),), start)
    completion = await ask(prompt, Params(max_tokens=24, regex=regex))
    return re.fullmatch(regex, completion.text) is not None


async def _tells(ask: Ask, tried: ServerCapabilities) -> bool:
    completion = await ask(Prompt((Message("user", "Say: yes"),)), Params(max_tokens=1, alternatives=20))
    return any(len(row) == 20 for row in completion.alternatives)


_LESSONS: tuple[
    tuple[tuple[dict[str, Any], ...], Callable[[Ask, ServerCapabilities], Awaitable[bool]]], ...
] = (
    (({"uncut": _UNCUT},), _answers),
    (
        (
            {"continuing": _CONTINUED},  # vLLM, SGLang
            {"continuing": _CONTINUED, "repeats": True},  # llama.cpp
            {"continuing": {}},  # llama.cpp, older: continues whatever ends with the assistant's message
            {"continuing": {}, "repeats": True},
        ),
        _continues,
    ),
    (({"constraint": structured_outputs}, {"constraint": bare_regex}, {"constraint": grammar}), _constrains),
    (({"alternatives": True},), _tells),
)
