"""The openai engine: requests, replies, failures and startup."""

import json

import httpx
import pytest

from grm_service.engines.remote.openai import OpenAIEngine
from grm_service.errors import EngineError, EngineUnreachable, ModelNotLoaded
from grm_service.types import Message, Params, Prompt
from tests.engines.scripted_server import ASK, GOOD, OK, ScriptedServer, engine

pytestmark = pytest.mark.anyio


async def test_request_and_reply():
    server = ScriptedServer(OK)
    completion = await engine(server, api_key="k").complete(
        Prompt((Message("user", "Hello"),), "Scores: "), Params(9, 0.5, 0.9, 7, regex="[0-9]", alternatives=3)
    )
    (request,) = server.requests
    assert str(request.url) == "http://judge.test/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer k"
    assert json.loads(request.content) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Scores: "}],
        "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 7,
        "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0,
        "continue_final_message": True, "add_generation_prompt": False,
        "structured_outputs": {"regex": "[0-9]"},
        "logprobs": True, "top_logprobs": 3,
    }  # fmt: skip
    assert (completion.text, completion.finish_reason) == ("Hi", "stop")
    used = completion.usage
    assert (used.prompt_tokens, used.cached_tokens, used.completion_tokens) == (3, 2, 1)


async def test_alternatives_are_sorted():
    # vLLM puts the chosen token first.
    top = [{"token": "b", "logprob": -2.0}, {"token": "a", "logprob": -0.5}]
    choice = GOOD["choices"][0] | {"logprobs": {"content": [{"token": "b", "top_logprobs": top}]}}
    completion = await engine(ScriptedServer((200, {"json": GOOD | {"choices": [choice]}}))).complete(
        ASK, Params(1, alternatives=2)
    )
    assert [[(each.text, each.logprob) for each in row] for row in completion.alternatives] == [
        [("a", -0.5), ("b", -2.0)]
    ]


async def test_truncated_reasoning_is_empty_text():
    choice = {"message": {"content": None, "reasoning": "Hm"}, "finish_reason": "length"}
    completion = await engine(ScriptedServer((200, {"json": {"choices": [choice]}}))).complete(ASK, Params(1))
    assert (completion.text, completion.finish_reason) == ("", "length")


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        ((401, {"text": "no"}), EngineError, "GRM_OPENAI_API_KEY"),
        ((404, {"text": "no such model"}), EngineError, "no such model"),
        ((500, {"text": "oops"}), EngineUnreachable, "500: oops"),
        ((429, {"text": "busy"}), EngineUnreachable, "429: busy"),
        (httpx.ConnectError("refused"), EngineUnreachable, "cannot be reached: refused"),
        (httpx.ReadTimeout("slow"), EngineUnreachable, "did not answer in time"),
        ((200, {"text": "<html>"}), EngineError, "not JSON"),
        ((200, {"json": []}), EngineError, "not an object"),
        ((200, {"json": {"choices": []}}), EngineError, "no completion"),
        ((200, {"json": {"choices": [{"message": {"content": None}}]}}), EngineError, "no completion"),
        (
            (200, {"json": {"choices": [{"message": {"content": "H"}, "finish_reason": "abort"}]}}),
            EngineError,
            "gave up",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_failures(answer, error, says):
    with pytest.raises(error) as caught:
        await engine(ScriptedServer(answer), api_key="secret").complete(ASK, Params(1))
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_first_listed_model_is_the_default():
    server = ScriptedServer(lambda body: OK if body else (200, {"json": {"data": [{"id": "listed"}]}}))
    remote = OpenAIEngine("http://judge.test/v1", transport=httpx.MockTransport(server))
    await remote.start()
    assert remote.model == "listed"


async def test_start_without_the_model_raises():
    with pytest.raises(ModelNotLoaded, match=r"judge\.test.*does not serve m.*no such model"):
        await engine(ScriptedServer((404, {"text": "no such model"}))).start()


async def test_start_without_models_raises():
    remote = OpenAIEngine(
        "http://judge.test/v1", transport=httpx.MockTransport(ScriptedServer((200, {"json": {"data": []}})))
    )
    with pytest.raises(ModelNotLoaded, match="GRM_OPENAI_MODEL"):
        await remote.start()


async def test_missing_features_are_logged(caplog):
    caplog.set_level("INFO", "grm_service")
    await engine(ScriptedServer(OK)).start()
    assert (
        "http://judge.test/v1 serves m; missing features: continues, constrains, alternatives" in caplog.text
    )


async def test_identical_samples_are_logged(caplog):
    await engine(ScriptedServer(OK)).start()
    assert "same text for every seed" in caplog.text


async def test_ignored_seeds_are_logged(caplog):
    texts = iter(range(100))
    reply = lambda body: (200, {"json": {"choices": [{"message": {"content": str(next(texts))}}]}})  # noqa: E731
    await engine(ScriptedServer(reply)).start()
    assert "does not return the same text for the same seed" in caplog.text
