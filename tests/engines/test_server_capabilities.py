"""What servers of each kind are found able to do, and what they are sent then."""

import json
import re

import httpx
import pytest

from grm_service import backoff
from grm_service.engines.remote.openai import OpenAIEngine
from grm_service.engines.remote.server_capabilities import gbnf
from grm_service.errors import EngineError
from grm_service.judging.parse import closing_regex
from grm_service.profiles.profile import Scale
from grm_service.types import Message, Params, Prompt

pytestmark = pytest.mark.anyio
STANDARD = {"model", "messages", "max_tokens", "temperature", "top_p", "seed"}
ENDS = {"Par": "is.", "Tues": "day,", "Ber": "lin"}


class Kind:
    """A server that knows some fields, and refuses, ignores or falls over the others."""

    def __init__(self, *knows, prefills=False, repeats=False, unknown=None, least_top_k=-1):
        self.knows, self.prefills, self.repeats = set(knows), prefills, repeats
        self.unknown, self.least_top_k = unknown, least_top_k
        self.last = {}

    def __call__(self, request):
        self.last = body = json.loads(request.content)
        strange = set(body) - STANDARD - self.knows
        if strange and self.unknown:
            return httpx.Response(self.unknown, text=f"unknown fields: {strange}")
        if 0 <= body.get("top_k", -1) <= self.least_top_k:
            return httpx.Response(400, text="top_k must be -1 or at least 1")
        known = {name: value for name, value in body.items() if name not in strange}
        choice = {"message": {"content": self._write(known)}, "finish_reason": "stop"}
        if known.get("logprobs"):
            row = [{"token": f"t{i}", "logprob": -1.0 - i} for i in range(body["top_logprobs"])]
            choice["logprobs"] = {"content": [{"top_logprobs": row}]}
        return httpx.Response(200, json={"choices": [choice]})

    def _write(self, body):
        said = body["messages"][-1]
        continued = said["role"] == "assistant" and (self.prefills or body.get("continue_final_message"))
        if not continued:
            return f"An answer of its own, {body['seed']}"
        constrained = {"structured_outputs", "regex", "grammar"} & set(body)
        written = "81, 43}" if constrained else ENDS.get(said["content"].split()[-1], "more")
        return said["content"] + written if self.repeats else written


UNCUT = {"top_k", "min_p", "repetition_penalty"}
TOLD = {"logprobs", "top_logprobs"}
CONTINUED = {"continue_final_message", "add_generation_prompt"}
VLLM = Kind(*UNCUT, *TOLD, *CONTINUED, "structured_outputs")
SGLANG = Kind(*UNCUT, *TOLD, "continue_final_message", "regex", least_top_k=0)
LLAMA = Kind("top_k", "min_p", *TOLD, *CONTINUED, "grammar", repeats=True)
OLD_LLAMA = Kind("top_k", "min_p", "grammar", prefills=True)
STRICT = Kind(*TOLD, unknown=400)
STRICT_PREFILLER = Kind(prefills=True, unknown=422)
DEAF = Kind()
FRAGILE = Kind(unknown=500)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(backoff, "pause_s", lambda asked_s, attempt: 0)


async def started(kind):
    remote = OpenAIEngine("http://judge.test/v1", "m", transport=httpx.MockTransport(kind))
    await remote.start()
    return remote


@pytest.mark.parametrize(
    ("kind", "lacks"),
    [
        (VLLM, []),
        (SGLANG, []),
        (LLAMA, []),
        (OLD_LLAMA, ["alternatives"]),
        (STRICT, ["continues", "constrains"]),
        (STRICT_PREFILLER, ["constrains", "alternatives"]),
        (DEAF, ["continues", "constrains", "alternatives"]),
        (FRAGILE, ["continues", "constrains", "alternatives"]),
    ],
    ids=["vllm", "sglang", "llama", "old llama", "strict", "strict prefiller", "deaf", "fragile"],
)
async def test_an_ability_counts_where_the_answer_shows_it(kind, lacks):
    assert (await started(kind)).abilities.lacking() == lacks


@pytest.mark.parametrize(
    ("kind", "constraint"),
    [
        (VLLM, {"structured_outputs": {"regex": "a|b"}}),
        (SGLANG, {"regex": "a|b"}),
        (LLAMA, {"grammar": 'root ::= "a" | "b"'}),
        (STRICT_PREFILLER, {}),
    ],
    ids=["vllm", "sglang", "llama", "strict prefiller"],
)
async def test_each_is_sent_a_constraint_in_its_own_words(kind, constraint):
    remote = await started(kind)
    await remote.complete(Prompt((Message("user", "Hello"),), "Start"), Params(3, regex="a|b"))
    sent = {
        name: value for name, value in kind.last.items() if name in ("structured_outputs", "regex", "grammar")
    }
    assert sent == constraint


async def test_a_strict_server_is_sent_nothing_but_the_standard():
    remote = await started(STRICT)
    await remote.complete(Prompt((Message("user", "Hello"),)), Params(3, 0.5, 0.9, regex="a"))
    assert set(STRICT.last) == STANDARD


async def test_others_are_told_not_to_cut_the_distribution():
    remote = await started(VLLM)
    await remote.complete(Prompt((Message("user", "Hello"),)), Params(3, 0.5, 0.9))
    assert {name: VLLM.last[name] for name in UNCUT} == {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}


@pytest.mark.parametrize("kind", [VLLM, LLAMA, STRICT_PREFILLER], ids=["vllm", "llama", "strict prefiller"])
async def test_the_continuation_is_not_repeated_even_where_the_server_does(kind):
    remote = await started(kind)
    completion = await remote.complete(Prompt((Message("user", "Hello"),), "Once"), Params(3))
    assert completion.text == "more"


async def test_a_repeated_continuation_that_is_not_the_one_sent_is_an_error():
    remote = await started(LLAMA)
    LLAMA.repeats = False
    with pytest.raises(EngineError, match="does not go on"):
        await remote.complete(Prompt((Message("user", "Hello"),), "Once"), Params(3))
    LLAMA.repeats = True


async def test_a_server_that_cannot_continue_is_not_asked_to():
    remote = await started(DEAF)
    with pytest.raises(EngineError, match="cannot continue"):
        await remote.complete(Prompt((Message("user", "Hello"),), "Start"), Params(3))


def test_the_closing_is_a_grammar():
    assert gbnf(closing_regex(2, Scale(1, 3))) == (
        'root ::= ( "3" | "2" | "1" ) "," " " ( "3" | "2" | "1" ) "}"'
    )


@pytest.mark.parametrize(
    ("regex", "translated"),
    [
        (r"[0-9]{2,3}x?", 'root ::= [0-9] {2,3} "x" ?'),
        (r"(a|[^bc])+\"\\", r'root ::= ( "a" | [^bc] ) + "\"" "\\"'),
        (r"é\.", 'root ::= "é" "."'),
        (r"\d+", None),
        (r"a.b", None),
        (r"(?:a)", None),
        (r"a+?", None),
        (r"^a$", None),
        (r"[\d]", None),
    ],
)
def test_only_simple_regexes_become_grammars(regex, translated):
    re.compile(regex)
    assert gbnf(regex) == translated
