"""Replies of chat servers in all shapes."""

import json

import pytest

from grm_service.engines.remote.completions import parse_completion
from grm_service.errors import EngineError
from grm_service.types import Thinking, Usage

STOP, CUT = "stop", "length"


def body(message, finish=STOP, **more):
    return {"choices": [{"message": message, "finish_reason": finish}], **more}


def thinking_part(thought):
    return {"type": "thinking", "thinking": [{"type": "text", "text": thought}]}


@pytest.mark.parametrize(
    ("message", "finish", "text", "thinking"),
    [
        ({"content": "Hi"}, STOP, "Hi", None),
        ({"content": ""}, STOP, "", None),
        ({"content": "Hi", "reasoning_content": "Hm"}, STOP, "Hi", "Hm"),
        ({"content": "Hi", "reasoning": "Hm", "reasoning_content": None}, STOP, "Hi", "Hm"),
        ({"content": "Hi", "reasoning_content": "Hm", "reasoning": "Hm"}, STOP, "Hi", "Hm"),
        ({"content": "Hi", "reasoning": [{"type": "text", "text": "H"}, {"text": "m"}]}, STOP, "Hi", "Hm"),
        (
            {"content": "Hi", "reasoning_details": [{"type": "reasoning.summary", "summary": "Hm"}]},
            STOP, "Hi", "Hm",
        ),
        ({"content": "Hi", "reasoning_details": [{"type": "reasoning.encrypted"}]}, STOP, "Hi", None),
        ({"content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]}, STOP, "Hi", None),
        ({"content": [thinking_part("Hm"), {"type": "text", "text": "Hi"}]}, STOP, "Hi", "Hm"),
        ({"content": [{"type": "reasoning", "text": "Hm"}, "Hi"]}, STOP, "Hi", "Hm"),
        ({"content": [thinking_part("Hm")]}, CUT, "", "Hm"),
        ({"content": None, "reasoning_content": "Hm"}, CUT, "", "Hm"),
        ({"reasoning": "Hm"}, "max_tokens", "", "Hm"),
        ({"content": None, "reasoning_content": "Hm"}, STOP, "", "Hm"),
        ({"content": "\n", "reasoning": "Hm"}, STOP, "\n", "Hm"),
        ({"content": [thinking_part("Hm")]}, STOP, "", "Hm"),
        ({"content": [{"thinking": [{"text": "Hm"}]}, {"type": "text", "text": "Hi"}]}, STOP, "Hi", "Hm"),
        ({"content": [{"text": "Hm", "thought": True}, {"text": "Hi"}]}, STOP, "Hi", "Hm"),
        ({"content": [{"type": "redacted_thinking", "data": "x"}, {"text": "Hi"}]}, STOP, "Hi", None),
        (
            {"content": "Hi", "reasoning_details": [{"text": "Hm"}, {"text": None, "signature": "x"}]},
            STOP, "Hi", "Hm",
        ),
        ({"content": "Hi", "reasoning": 5}, STOP, "Hi", None),
        ({"content": None}, CUT, "", None),
        ({}, CUT, "", None),
        (None, CUT, "", None),
    ],
)  # fmt: skip
def test_text_and_thinking_are_read(message, finish, text, thinking):
    completion = parse_completion(body(message, finish))
    assert completion.text == text
    assert (completion.thinking and completion.thinking.text) == thinking
    assert completion.finish_reason == (STOP if finish == STOP else CUT)
    if completion.thinking is not None:
        assert completion.thinking.cut == (text.strip() == "")


def test_choice_without_message_is_empty_text():
    reply = {"choices": [{"finish_reason": "length", "index": 0}], "usage": {"prompt_tokens": 9}}
    completion = parse_completion(reply)
    assert (completion.text, completion.usage) == ("", Usage(9, None, None))


def test_hidden_thinking_is_noticed():
    usage = {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 8}}
    completion = parse_completion(body({"content": ""}, CUT, usage=usage))
    assert completion.thinking == Thinking("", cut=True)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (body({"content": None, "refusal": "I cannot help"}), "refused to answer: I cannot help"),
        (body({"content": "No.", "refusal": "I cannot help"}), "refused to answer: I cannot help"),
        (body({"content": [{"type": "refusal", "refusal": "I cannot"}]}), "refused to answer: I cannot"),
        (body({"refusal": "I \ud800\ncannot"}), "refused to answer: I cannot"),
        (body({"content": None, "tool_calls": [{"id": "1"}]}), "called a tool"),
        (body({"content": None, "reasoning": "Hm", "tool_calls": [{"id": "1"}]}), "called a tool"),
        (body({"content": None}), "no content"),
        (body({}), "no content"),
        (body(None), "no content"),
        (body("Hi"), "message is not an object"),
        (body({"content": "Hi"}, "error"), "gave up: error"),
        (body({"content": "Hi"}, "network_error"), "gave up: network_error"),
        (body({"content": 5}), "neither a text nor a list"),
        (body({"content": [{"type": "image_url"}]}), "a part of the content is no text"),
        (body({"content": [7]}), "a part of the content is no text"),
        ({"choices": None}, "no choices"),
        ({"choices": {"0": {}}}, "no choices"),
        ({"choices": [[]]}, "choice is not an object"),
        ({}, "no choices"),
    ],
)  # fmt: skip
def test_reply_without_answer_is_an_error(reply, says):
    with pytest.raises(EngineError, match=says):
        parse_completion(reply)


def test_refusal_is_not_retryable():
    with pytest.raises(EngineError) as caught:
        parse_completion(body({"content": None, "refusal": "No"}))
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (None, (None, None, None)),
        ({}, (None, None, None)),
        ({"prompt_tokens": 3, "total_tokens": 5}, (3, None, None)),
        ({"prompt_tokens": 3.0, "completion_tokens": 2}, (3, None, 2)),
        ({"prompt_tokens_details": {"cached_tokens": 2}}, (None, 2, None)),
        ({"prompt_tokens_details": None, "completion_tokens": 0}, (None, None, 0)),
    ],
)
def test_tokens_not_stated_are_unknown(usage, counts):
    completion = parse_completion(body({"content": "Hi"}, usage=usage))
    assert completion.usage == Usage(*counts)


NUMBERS = ["-1", "1e400", "-1e400", "NaN", "1" + "0" * 400, "1.5", '"9"', "true", "[]"]


@pytest.mark.parametrize("number", NUMBERS)
def test_impossible_token_count_is_an_error(number):
    reply = json.loads(
        json.dumps(body({"content": "Hi"}, usage={"completion_tokens": "N"})).replace('"N"', number)
    )
    with pytest.raises(EngineError, match="number of tokens"):
        parse_completion(reply)


def with_logprobs(logprobs):
    return {"choices": [{"message": {"content": "9"}, "finish_reason": STOP, "logprobs": logprobs}]}


@pytest.mark.parametrize(
    "number", ["0.5", "1e400", "-1e400", "NaN", "-1" + "0" * 400, "null", '"-1"', "true"]
)
def test_impossible_logprob_is_an_error(number):
    top = {"content": [{"top_logprobs": [{"token": "9", "logprob": "N"}]}]}
    reply = json.loads(json.dumps(with_logprobs(top)).replace('"N"', number))
    with pytest.raises(EngineError, match="logprob"):
        parse_completion(reply, alternatives=1)
    assert parse_completion(reply).text == "9"  # nobody asked for them


@pytest.mark.parametrize(
    "logprobs",
    [
        [1],
        {"content": {"a": 1}},
        {"content": [7]},
        {"content": [{}]},
        {"content": [{"top_logprobs": 5}]},
        {"content": [{"top_logprobs": [5]}]},
        {"content": [{"top_logprobs": [{"logprob": -1.0}]}]},
        {"content": [{"top_logprobs": [{"token": 9, "logprob": -1.0}]}]},
    ],
)
def test_odd_logprobs_are_an_error(logprobs):
    with pytest.raises(EngineError):
        parse_completion(with_logprobs(logprobs), alternatives=1)


def test_missing_logprobs_are_none():
    assert parse_completion(with_logprobs(None), alternatives=1).alternatives == ()


def test_rounded_logprob_is_certain():
    top = {"content": [{"top_logprobs": [{"token": "9", "logprob": 1e-7}]}]}
    assert parse_completion(with_logprobs(top), alternatives=1).alternatives[0][0].logprob == 0.0


def test_deep_reply_is_an_error():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(EngineError):
        parse_completion(body({"content": deep}))
    with pytest.raises(EngineError):
        parse_completion({"choices": deep})
    with pytest.raises(EngineError):
        parse_completion(body({"content": None, "refusal": deep}))
    with pytest.raises(EngineError):
        parse_completion(body({"content": [{"type": deep}]}))
