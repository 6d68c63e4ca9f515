"""Fields of a request that servers refuse, in the words of different vendors."""

import json

import httpx
import pytest

from grm_service.engines.remote.field_rules import FieldRules
from grm_service.errors import EngineError, ModelNotLoaded
from grm_service.types import Message, Params, Prompt
from tests.engines.scripted_server import ASK, engine

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_pauses")]


class Picky:
    """A server that answers a request with `refuses(body)`, or if that is None with a text."""

    def __init__(self, refuses, status=400):
        self.refuses, self.status, self.bodies = refuses, status, []

    def __call__(self, request):
        body = json.loads(request.content)
        self.bodies.append(body)
        refusal = self.refuses(body)
        if refusal is not None:
            return httpx.Response(self.status, json=refusal)
        choice = {"message": {"content": f"42 {body.get('seed')}"}, "finish_reason": "stop"}
        return httpx.Response(200, json={"choices": [choice]})


def names(field, words, **more):
    """Refuse a field in these words."""
    return lambda body: {"error": {"message": words, **more}} if field in body else None


def extra_forbidden(*fields):
    """Refuse fields as pydantic does."""

    def refuses(body):
        found = [
            {"type": "extra_forbidden", "loc": ["body", field], "msg": "Extra inputs are not permitted"}
            for field in fields
            if field in body
        ]
        return {"detail": found} if found else None

    return refuses


def only_default_temperature(body):
    words = "'temperature' does not support 0.5 with this model. Only the default (1) value is supported."
    return {"error": {"message": words, "param": "temperature"}} if body.get("temperature", 1) != 1 else None


FULL_DISTRIBUTION = ["min_p", "repetition_penalty", "top_k"]
NO_SEED = names("seed", 'Invalid JSON payload received. Unknown name "seed": Cannot find field.')


@pytest.mark.parametrize(
    ("refuses", "status", "dropped"),
    [
        (NO_SEED, 400, ["seed"]),
        (extra_forbidden("seed"), 422, ["seed"]),
        (extra_forbidden("seed", "top_p"), 422, ["seed", "top_p"]),
        (extra_forbidden(*FULL_DISTRIBUTION), 422, FULL_DISTRIBUTION),
        (names("seed", "Unsupported: 'seed'. Supported: model, messages, temperature"), 400, ["seed"]),
        (names("top_p", "Unsupported parameter: 'top_p' is not supported with this model."), 400, ["top_p"]),
        (names("top_p", "`temperature` and `top_p` cannot both be specified."), 400, ["top_p"]),
        (names("top_p", "`top_p` must be > 0.0 and < 1.0"), 422, ["top_p"]),
        (names("temperature", "invalid temperature: only 1 is allowed for this model"), 400, ["temperature"]),
        (only_default_temperature, 400, ["temperature"]),
    ],
)  # fmt: skip
async def test_named_field_is_left_out(refuses, status, dropped):
    remote = engine(Picky(refuses, status))
    await remote.start()
    assert list(remote.dropped_fields) == dropped


@pytest.mark.parametrize(
    "refusal",
    [
        {"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"]}]}},
        {"detail": "Unknown field: seed"},
        {"message": "invalid request: parameter 'seed' is not a valid field"},
        {"error": "Argument not supported on this model: seed", "code": "An invalid argument"},
        {"error": {"message": "Unrecognized request argument supplied: seed", "type": "invalid_request"}},
        {"error": {"message": "Extra inputs are not permitted, field: 'seed', value: 1"}},
        {"type": "error", "error": {"message": "seed: Extra inputs are not permitted"}},
        {"message": "Malformed input request: #: extraneous key [seed] is not permitted"},
        {"error": {"message": "Provider returned error", "metadata": {"raw": '{"detail": "no seed"}'}}},
        {"error": {"message": "Unsupported parameter", "param": "seed", "code": "unsupported_parameter"}},
        {"error": {"message": "Invalid value", "param": "body.seed"}},
        [{"error": {"code": 400, "message": 'Unknown name "seed"', "status": "INVALID_ARGUMENT"}}],
        {"errors": [{"message": "`seed` is unsupported"}]},
        {"error_code": "BAD_REQUEST", "message": "seed is not a known parameter"},
        {"error": "unknown field `seed`, expected one of `messages`, `max_tokens`, `top_p`"},
        {"message": "unknown field: Seed"},
    ],
)  # fmt: skip
async def test_vendors_words_are_understood(refusal):
    remote = engine(Picky(lambda body: refusal if "seed" in body else None))
    await remote.start()
    assert remote.dropped_fields == ("seed",)


async def test_refusals_are_learnt_once():
    server = Picky(NO_SEED)
    remote = engine(server)
    await remote.start()
    await remote.complete(ASK, Params(3))
    assert sum("seed" in body for body in server.bodies) == 1


async def test_later_refusal_is_learnt_too():
    server = Picky(lambda body: None)
    remote = engine(server)
    await remote.start()
    server.refuses, server.bodies = NO_SEED, []
    for _ in range(2):
        assert (await remote.complete(ASK, Params(3))).text == "42 None"
    assert ["seed" in body for body in server.bodies] == [True, False, False]
    assert remote.dropped_fields == ("seed",)


async def test_limit_is_renamed():
    words = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    server = Picky(names("max_tokens", words, param="max_tokens", code="unsupported_parameter"))
    remote = engine(server)
    await remote.start()
    await remote.complete(ASK, Params(7))
    assert server.bodies[-1]["max_completion_tokens"] == 7
    assert remote.dropped_fields == ()


async def test_list_of_known_fields_renames_nothing():
    server = Picky(names("seed", "unknown field `seed`, expected one of `messages`, `max_tokens`"), 422)
    remote = engine(server)
    await remote.start()
    assert "max_tokens" in server.bodies[-1]


async def test_greedy_requests_have_no_top_p():
    words = "top_p must be 1 when using greedy sampling."
    server = Picky(lambda body: {"message": words} if not body["temperature"] and body["top_p"] < 1 else None)
    remote = engine(server)
    await remote.start()
    await remote.complete(ASK, Params(3, 0.0, 0.9))
    await remote.complete(ASK, Params(3, 0.7, 0.9))
    assert server.bodies[-1]["top_p"] == 0.9


async def test_server_that_thinks_only_in_streams():
    words = "parameter.enable_thinking must be set to false for non-streaming calls"
    server = Picky(lambda body: None if body.get("enable_thinking") is False else {"error": words})
    remote = engine(server)
    await remote.start()
    await remote.complete(ASK, Params(3))
    assert server.bodies[-1]["enable_thinking"] is False


async def test_refused_zero_temperature_is_raised():
    words = "`temperature` must be strictly positive"
    server = Picky(lambda body: {"error": words} if body.get("temperature") == 0 else None, 422)
    remote = engine(server)
    await remote.start()
    await remote.complete(ASK, Params(3, 0.0))
    assert server.bodies[-1]["temperature"] == 0.01
    await remote.complete(ASK, Params(3, 0.7))
    assert server.bodies[-1]["temperature"] == 0.7
    assert remote.dropped_fields == ()


@pytest.mark.parametrize("words", ["temperature must be less than or equal to 1", "temperature: range 0..1"])
async def test_refused_value_drops_no_field(words):
    """One request's temperature does not change all others."""
    server = Picky(lambda body: {"error": words} if body.get("temperature", 0) > 1 else None)
    remote = engine(server)
    await remote.start()
    with pytest.raises(EngineError, match="temperature"):
        await remote.complete(ASK, Params(3, 2.0))
    assert remote.dropped_fields == ()


async def test_quoted_text_teaches_nothing():
    server = Picky(lambda body: None)
    remote = engine(server)
    await remote.start()
    server.refuses = lambda body: {"error": "filtered: 'unsupported seed temperature top_p system'"}
    with pytest.raises(EngineError, match="filtered"):
        await remote.complete(ASK, Params(3))
    assert remote.dropped_fields == ()
    server.refuses = lambda body: None
    await remote.complete(ASK, Params(3))
    assert {"seed", "temperature", "top_p"} <= set(server.bodies[-1])


async def test_refusal_without_names_ends_the_start():
    with pytest.raises(ModelNotLoaded, match=r"Bad request .*GRM_OPENAI_BASE_URL"):
        await engine(Picky(lambda body: {"error": "Bad request"})).start()


@pytest.mark.parametrize(
    "words",
    [
        "System role not supported",
        "Only user and assistant roles are supported!",
        "Developer instruction is not enabled for this model",
        "'messages[0].role' does not support 'system' with this model.",
    ],
)
async def test_system_text_is_merged(words):
    server = Picky(
        lambda body: {"error": words} if any(m["role"] == "system" for m in body["messages"]) else None
    )
    remote = engine(server)
    await remote.start()
    messages = (Message("system", "Be brief."), Message("user", "Hello"), Message("assistant", "Hi"))
    for _ in range(2):
        await remote.complete(Prompt((*messages, Message("user", "Bye"))), Params(3))
    assert server.bodies[-1]["messages"] == [
        {"role": "user", "content": "Be brief.\n\nHello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Bye"},
    ]
    assert sum(body["messages"][0]["role"] == "system" for body in server.bodies) == 1


async def test_lost_settings_are_logged(caplog):
    await engine(Picky(extra_forbidden("seed", "temperature"), 422)).start()
    assert "cannot be reproduced" in caplog.text
    assert "a single sample (k 1) is not greedy" in caplog.text


def test_rules_end():
    """Each refusal leaves less to refuse."""
    body = {
        "messages": [{"role": "system", "content": "S"}], "max_tokens": 1, "temperature": 0.0, "top_p": 1.0,
        "seed": 1, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0,
    }  # fmt: skip
    rules, refusals = FieldRules(), 0
    while rules is not None:
        refusals += 1
        rules = rules.after(f"unsupported system role and {' '.join(body)}", rules.apply(body))
    assert refusals < 12
