"""Detection of the capabilities of different servers, and the resulting request fields."""

import json
import re
from dataclasses import replace

import httpx
import pytest

from grm_service.engines.remote.openai import OpenAIEngine
from grm_service.engines.remote.server_capabilities import to_gbnf
from grm_service.errors import EngineError
from grm_service.judging.parse import closing_regex, critique_regex
from grm_service.profiles.catalog import load_catalog
from grm_service.profiles.profile import Scale
from grm_service.types import Message, Params, Prompt

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_pauses")]
STANDARD = {"model", "messages", "max_tokens", "temperature", "top_p", "seed"}
ENDS = {"Par": "is.", "Tues": "day,", "Ber": "lin"}


class FakeServer:
    """A server that supports some fields and rejects, ignores or fails on the others.

    `unknown` is its status for unknown fields; None ignores them.
    """

    def __init__(self, *fields, prefills=False, echoes=False, unknown=None, rejected_top_k=-1):
        self.fields, self.prefills, self.echoes = set(fields), prefills, echoes
        self.unknown, self.rejected_top_k = unknown, rejected_top_k
        self.last = {}

    def __call__(self, request):
        self.last = body = json.loads(request.content)
        unknown_fields = set(body) - STANDARD - self.fields
        if unknown_fields and self.unknown:
            return httpx.Response(self.unknown, text=f"unknown fields: {unknown_fields}")
        if 0 <= body.get("top_k", -1) <= self.rejected_top_k:
            return httpx.Response(400, text="top_k must be -1 or at least 1")
        known = {name: value for name, value in body.items() if name not in unknown_fields}
        choice = {"message": {"content": self._write(known)}, "finish_reason": "stop"}
        if known.get("logprobs"):
            row = [{"token": f"t{i}", "logprob": -1.0 - i} for i in range(body["top_logprobs"])]
            choice["logprobs"] = {"content": [{"top_logprobs": row}]}
        return httpx.Response(200, json={"choices": [choice]})

    def _write(self, body):
        last = body["messages"][-1]
        continues = self.prefills or body.get("continue_final_message")
        if last["role"] != "assistant" or not continues:
            return f"An answer of its own, {body['seed']}"
        has_regex = {"structured_outputs", "regex", "grammar"} & set(body)
        text = "81, 43}" if has_regex else ENDS.get(last["content"].split()[-1], "more")
        return last["content"] + text if self.echoes else text


FULL_DISTRIBUTION = {"top_k", "min_p", "repetition_penalty"}
LOGPROBS = {"logprobs", "top_logprobs"}
CONTINUE = {"continue_final_message", "add_generation_prompt"}
VLLM = FakeServer(*FULL_DISTRIBUTION, *LOGPROBS, *CONTINUE, "structured_outputs")
SGLANG = FakeServer(*FULL_DISTRIBUTION, *LOGPROBS, "continue_final_message", "regex", rejected_top_k=0)
LLAMA = FakeServer("top_k", "min_p", *LOGPROBS, *CONTINUE, "grammar", echoes=True)
OLD_LLAMA = FakeServer("top_k", "min_p", "grammar", prefills=True)
STRICT = FakeServer(*LOGPROBS, unknown=400)
STRICT_PREFILLER = FakeServer(prefills=True, unknown=422)
IGNORANT = FakeServer()
FRAGILE = FakeServer(unknown=500)
EVERYTHING = ["continues", "constrains", "alternatives", "continues_thinking"]


async def started(server):
    remote = OpenAIEngine("http://judge.test/v1", "m", transport=httpx.MockTransport(server))
    await remote.start()
    return remote


@pytest.mark.parametrize(
    ("server", "missing"),
    [
        (VLLM, []),
        (SGLANG, []),
        (LLAMA, []),
        (OLD_LLAMA, ["alternatives"]),
        (STRICT, EVERYTHING),
        (STRICT_PREFILLER, ["constrains", "alternatives"]),
        (IGNORANT, EVERYTHING),
        (FRAGILE, EVERYTHING),
    ],
    ids=["vllm", "sglang", "llama", "old llama", "strict", "strict prefiller", "ignorant", "fragile"],
)
async def test_missing_abilities_are_detected(server, missing):
    assert (await started(server)).abilities.lacking() == missing


@pytest.mark.parametrize(
    ("server", "constraint"),
    [
        (VLLM, {"structured_outputs": {"regex": "a|b"}}),
        (SGLANG, {"regex": "a|b"}),
        (LLAMA, {"grammar": 'root ::= "a" | "b"'}),
        (STRICT_PREFILLER, {}),
    ],
    ids=["vllm", "sglang", "llama", "strict prefiller"],
)
async def test_regex_uses_the_servers_field(server, constraint):
    remote = await started(server)
    await remote.complete(Prompt((Message("user", "Hello"),), "Start"), Params(3, regex="a|b"))
    sent = {
        name: server.last[name] for name in server.last.keys() & {"structured_outputs", "regex", "grammar"}
    }
    assert sent == constraint


async def test_strict_server_gets_standard_fields_only():
    remote = await started(STRICT)
    await remote.complete(Prompt((Message("user", "Hello"),)), Params(3, 0.5, 0.9, regex="a"))
    assert set(STRICT.last) == STANDARD


async def test_full_distribution_is_requested():
    remote = await started(VLLM)
    await remote.complete(Prompt((Message("user", "Hello"),)), Params(3, 0.5, 0.9))
    sent = {name: VLLM.last[name] for name in FULL_DISTRIBUTION}
    assert sent == {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}


async def test_request_fields_are_merged():
    remote = await started(VLLM)
    fields = {"chat_template_kwargs": {"enable_thinking": True}, "thinking_budget": 9}
    await remote.complete(Prompt((Message("user", "Hello"),)), Params(3, request_fields=fields))
    assert {name: VLLM.last[name] for name in fields} == fields


@pytest.mark.parametrize("server", [VLLM, LLAMA, STRICT_PREFILLER], ids=["vllm", "llama", "strict prefiller"])
async def test_echoed_continuation_is_removed(server):
    remote = await started(server)
    completion = await remote.complete(Prompt((Message("user", "Hello"),), "Once"), Params(3))
    assert completion.text == "more"


async def test_missing_echo_is_an_error():
    remote = await started(LLAMA)
    LLAMA.echoes = False
    with pytest.raises(EngineError, match="does not start with the continuation"):
        await remote.complete(Prompt((Message("user", "Hello"),), "Once"), Params(3))
    LLAMA.echoes = True


async def test_unsupported_continuation_is_an_error():
    remote = await started(IGNORANT)
    with pytest.raises(EngineError, match="cannot continue"):
        await remote.complete(Prompt((Message("user", "Hello"),), "Start"), Params(3))


def test_critique_regex_becomes_a_grammar():
    profile = replace(load_catalog().profile("qwen-judge"), scale=Scale(1, 2))
    start, _, end = to_gbnf(critique_regex(2, profile)).partition('"A" "n"')
    assert start == 'root ::= [^\\n] * ( "\\n" [0-9] [^\\n] * ) {0,4} ( "\\n" '
    assert end.endswith('"{" ( "1" ) "," " " ( "2" ) "}" )')


def test_closing_regex_becomes_a_grammar():
    assert to_gbnf(closing_regex(2, Scale(1, 3))) == (
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
    assert to_gbnf(regex) == translated
