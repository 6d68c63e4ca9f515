"""Error replies in the words of many vendors, by status and in the body of a 200."""

import asyncio
import json

import pytest

from grm_service.engines.remote.error_replies import ErrorReply, find_error
from grm_service.errors import (
    ContentFiltered,
    EngineError,
    EngineUnreachable,
    PromptRefused,
    PromptTooLong,
    UpstreamDenied,
    UpstreamRefused,
)
from grm_service.types import Params
from tests.engines.scripted_server import ASK, GOOD, OK, ScriptedServer, engine

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_pauses")]


def openai(message, **more):
    return {"error": {"message": message, "type": "invalid_request_error", **more}}


def gemini(code, status, message):
    return {"error": {"code": code, "status": status, "message": message}}


async def failure(status, body, max_tokens=10):
    """Return the exception of a completion that a server answers so, and the number of its requests."""
    content = {"text": body} if isinstance(body, str) else {"json": body}
    server = ScriptedServer((status, content))
    with pytest.raises((EngineError, PromptTooLong)) as caught:
        await engine(server).complete(ASK, Params(max_tokens))
    return caught.value, len(server.requests)


TOO_LONG = [
    (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 100. Given: 120 "
        "`inputs` tokens and 10 `max_new_tokens`", "error_type": "validation"}),
    (400, openai("This model's maximum context length is 100 tokens. However, your messages resulted in 120 "
        "tokens. Please reduce the length of the messages.", code="context_length_exceeded")),
    (400, openai("This model's maximum context length is 100 tokens. However, you requested 130 tokens (120 "
        "in the messages, 10 in the completion).")),
    (400, openai("request (120 tokens) exceeds the available context size (100 tokens)", n_ctx=100)),
    (400, {"type": "error", "error": {"type": "invalid_request_error",
        "message": "prompt is too long: 120 tokens > 100 maximum"}}),
    (400, [gemini(400, "INVALID_ARGUMENT",
        "The input token count (120) exceeds the maximum number of tokens allowed (100).")]),
    (400, {"object": "error", "message": "Prompt contains 120 tokens and 0 draft tokens, too large for model "
        "with 100 maximum context length", "type": "invalid_request_prompt", "code": "3051"}),
    (400, {"message": "too many tokens: total number of tokens in the prompt cannot exceed 100 - received "
        "120. Try using a shorter prompt"}),
    (400, openai("This model's maximum prompt length is 100 but the request contains 120 tokens.")),
    (400, openai("Please reduce the length of the messages or completion. Current length is 120 while limit "
        "is 100", code="context_length_exceeded")),
    (400, openai("Prompt length (120) exceeds maximum input length (100)")),
    (400, openai("The decoder prompt (length 120) is longer than the maximum model length of 100.")),
    (400, openai("Input length (120 tokens) exceeds the maximum allowed length (100 tokens).")),
    (400, openai("The prompt is too long: 120, model maximum context length: 100")),
    (400, [gemini(400, "INVALID_ARGUMENT", "Unable to submit, because the input token count is 120 but "
        "model only supports up to 100.")]),
    (500, openai("This model's maximum context length is 100 tokens, and your request has 120 input tokens")),
    (200, openai("This model's maximum context length is 100 tokens, and your request has 120 input tokens")),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body"), TOO_LONG)
async def test_context_length_in_words_of_vendors(status, body):
    error, requests = await failure(status, body)
    assert (type(error), error.tokens, error.limit, requests) == (PromptTooLong, 120, 100, 1)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"message": "Input is too long for requested model."}),
        (413, openai("Request too large for model `m`: please reduce your message size and try again.")),
        (400, openai("Please reduce the length of the messages.", code="context_length_exceeded")),
        (400, {"code": "InvalidParameter", "message": "Range of input length should be [1, 30720]"}),
        (400, openai("Input token length too long")),
        (400, {"error": {"code": "1261", "message": "Prompt 超长"}}),
    ],
)
async def test_context_length_without_sizes(status, body):
    error, _ = await failure(status, body)
    assert (type(error), error.code, error.retryable) == (PromptRefused, "prompt_too_long", False)
    assert "refused the prompt as too long" in str(error)
    assert error.reason in str(error)


@pytest.mark.parametrize(
    "words", ["`inputs` cannot be empty", "names are case-sensitive", "safety_settings: unknown field"]
)
async def test_similar_words_are_plain_refusals(words):
    error, _ = await failure(400, openai(words))
    assert type(error) is UpstreamRefused


async def test_max_tokens_are_no_context_length():
    error, _ = await failure(
        400,
        openai(
            "max_tokens is too large: 9. This model supports at most 8 completion tokens.", param="max_tokens"
        ),
    )
    assert (type(error), error.param) == (UpstreamRefused, "max_tokens")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, openai("The response was filtered.", param="prompt", code="content_filter")),
        (400, {"error": {"code": "bad", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
        (400, openai("Your request was rejected.", code="content_policy_violation")),
        (403, {"error": {"code": 403, "message": "Your input was flagged", "metadata": {"reasons": ["x"]}}}),
        (400, {"code": "DataInspectionFailed", "message": "Input data may contain inappropriate content."}),
        (400, openai("Content Exists Risk")),
        (200, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}),
        (200, {"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}),
        (200, {"choices": [{"message": {"content": None}, "finish_reason": "SAFETY"}]}),
        (200, {"choices": [{"finish_reason": "content_filter: PROHIBITED_CONTENT"}]}),
        (200, {"choices": [{"message": {"content": "Hal"}, "finish_reason": "content_filter"}]}),
        (200, {"choices": [{"message": {"content": "Hal"}, "finish_reason": "SAFETY"}]}),
        (200, {"choices": [{"message": {"content": None}, "finish_reason": "RECITATION"}]}),
        (200, {"error": {"code": 400, "message": "content_filter"}, "choices": None}),
    ],
)  # fmt: skip
async def test_content_filters_of_vendors(status, body):
    error, requests = await failure(status, body)
    assert (type(error), error.code, error.retryable, requests) == (
        ContentFiltered,
        "content_filtered",
        False,
        1,
    )


@pytest.mark.parametrize(
    ("status", "body", "to_set"),
    [
        (401, openai("Incorrect API key provided"), "GRM_OPENAI_API_KEY"),
        (402, openai("Insufficient Balance"), "credit"),
        (403, "<html>forbidden</html>", "GRM_OPENAI_API_KEY"),
        (404, openai("The model `m` does not exist", code="model_not_found"), "GRM_OPENAI_MODEL"),
        (404, '{"detail":"Not Found"}', "GRM_OPENAI_BASE_URL"),
        (400, [gemini(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")], "KEY"),
        (400, openai("m is not a valid model ID"), "GRM_OPENAI_MODEL"),
        (200, {"error": {"code": 401, "message": "No auth credentials found"}}, "GRM_OPENAI_API_KEY"),
        (200, {"error": {"status": "UNAUTHENTICATED", "message": "no"}}, "GRM_OPENAI_API_KEY"),
        (302, "", "GRM_OPENAI_BASE_URL"),
    ],
)
async def test_denial_says_what_to_set(status, body, to_set):
    error, requests = await failure(status, body)
    assert (type(error), error.code, error.retryable) == (UpstreamDenied, "upstream_denied", False)
    assert requests == 2  # the second is the engine's own question
    assert to_set in error.message


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_denial_of_one_request_is_a_refusal(status):
    """Such as a firewall's: other requests are answered, so a run can go on."""

    def answers(body):
        refuses = body["messages"][-1]["content"] == "Hello"
        return (status, {"json": openai("not this one")}) if refuses else OK

    server = ScriptedServer(answers)
    remote = engine(server)
    refused = await asyncio.gather(
        *(remote.complete(ASK, Params(10)) for _ in range(3)), return_exceptions=True
    )
    assert {(type(each), each.status, each.reason) for each in refused} == {
        (UpstreamRefused, status, "not this one")
    }
    assert len(server.requests) == 4  # the engine's own question is asked once


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (openai("Unsupported parameter: 'seed'.", param="seed"), "seed"),
        ([gemini(400, "INVALID_ARGUMENT", 'Unknown name "seed": Cannot find field.')], "seed"),
        (
            {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]},
            "seed",
        ),
        (openai("property 'logprobs' is unsupported"), "logprobs"),
        (openai("temperature: Extra inputs are not permitted"), "temperature"),
        (openai("no"), None),
    ],
)
async def test_refusal_names_field_and_words(body, param):
    error, _ = await failure(400, body)
    assert (type(error), error.status, error.param) == (UpstreamRefused, 400, param)
    assert error.reason
    assert error.reason in str(error)


@pytest.mark.parametrize(
    "body",
    [
        {"id": None, "choices": None, "error": {"message": "Provider returned error", "code": 429}},
        {"error": {"message": "busy", "code": "429"}},
        {"error": {"message": "busy", "code": "429 Too Many Requests"}},
        {"error": {"message": "busy", "code": 429.0}},
        {"error": {"message": "slow", "code": 408}},
        {"error": {"message": "busy", "code": "rate_limit_exceeded"}},
        {"error": {"message": "busy", "status": "RESOURCE_EXHAUSTED"}},
        {"error": {"error": {"type": "rate_limit_error", "message": "busy"}}},
        {"status_code": 503, "message": "busy"},
        {"object": "error", "type": "server_error", "message": "busy", "code": None},
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        {"choices": [{"error": {"code": 502, "message": "x"}, "message": {"content": ""}}]},
        [{"error": {"code": 503, "message": "x"}}],
        'data: {"error": {"code": 429, "message": "busy"}}\n\n',
        ': PROCESSING\n\nevent: error\ndata: {"message": "busy", "code": 503}\n\ndata: [DONE]\n\n',
        'data: {"choices": [{"delta": {"content": "a"}}]}\n\ndata: {"error": {"code": 502}}\n\n',
        'retry: 3000\n\ndata: {"error": {"code": 502}}\n\n',
    ],
)
async def test_transient_error_in_a_200_is_retried(body):
    content = {"text": body} if isinstance(body, str) else {"json": body}
    server = ScriptedServer((200, content), (200, content), OK)
    assert (await engine(server).complete(ASK, Params(1))).text == "Hi"
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [408, 409, 424, 425, 498, 499])
async def test_4xx_that_passes_is_retried(status):
    server = ScriptedServer((status, {"text": "x"}), OK)
    assert (await engine(server).complete(ASK, Params(1))).text == "Hi"


async def test_event_of_an_error_may_be_text():
    error, _ = await failure(200, "event: error\ndata: the model crashed\n\n")
    assert (type(error), error.reason) == (EngineError, "the model crashed")


async def test_redirect_is_not_followed():
    away = {"location": "https://user:word@elsewhere.test/v1?a=b"}
    server = ScriptedServer((307, {"headers": away}))
    with pytest.raises(UpstreamDenied, match=r"to https://elsewhere\.test/v1") as caught:
        await engine(server).complete(ASK, Params(1))
    assert "word" not in str(caught.value)
    assert {request.url.host for request in server.requests} == {"judge.test"}


async def test_busy_server_is_tried_longer():
    error, requests = await failure(200, {"error": {"code": 429, "message": "busy"}})
    assert (type(error).__mro__[1], error.status, requests) == (EngineUnreachable, 429, 5)


async def test_error_in_a_200_without_a_code():
    error, requests = await failure(200, {"error": "something went wrong"})
    assert (type(error), error.retryable, requests) == (EngineError, True, 1)
    assert "something went wrong" in str(error)


async def test_null_error_is_none():
    reply = (200, {"json": GOOD | {"error": None, "code": 200, "status": "completed"}})
    assert (await engine(ScriptedServer(reply)).complete(ASK, Params(1))).text == "Hi"


@pytest.mark.parametrize("status", [400, 422, 500])
async def test_words_are_bounded_and_printable(status):
    error, _ = await failure(status, json.dumps(openai("no\x1b[31m\n\u202e\ud800 way " + "x" * 5000)))
    assert error.reason.startswith("no[31m way x")
    assert len(error.reason) <= 500


@pytest.mark.parametrize("status", [400, 401, 422, 429, 500])
async def test_message_has_no_words_of_the_server(status):
    echo = "My private text"
    body = {
        "error": {"message": f"invalid: {echo}", "type": echo, "code": echo, "param": echo},
        "detail": [{"loc": ["body", echo], "msg": echo, "input": echo}],
    }
    error, _ = await failure(status, body)
    assert echo in str(error)
    assert echo not in error.message


def test_deep_errors_are_read():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert find_error({"promptFeedback": {"blockReason": deep}}).codes == ("content_filter",)
    assert find_error({"error": {"message": deep, "code": deep, "param": deep}}).summary == "no code"


@pytest.mark.parametrize("label", ["a" * 65, "秘密" * 9, "a秘密", "two words"])
def test_label_that_may_be_a_text_is_none(label):
    error = ErrorReply.of({"error": {"code": label, "param": label}}, 400)
    assert (error.codes, error.param) == ((), None)
