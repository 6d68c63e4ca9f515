import asyncio
import json
import time

import httpx
import pytest

from grm_service import backoff
from grm_service.engines.remote.openai import OpenAIEngine
from grm_service.errors import BadTask, EngineError, EngineUnreachable, ModelNotLoaded, PromptTooLong
from grm_service.types import Message, Params, Prompt
from tests.engines.loopback import Loopback

pytestmark = pytest.mark.anyio
ASK = Prompt((Message("user", "Hello"),))
GOOD = {
    "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}},
}


class Server:
    """Answers from a list, repeating the last answer, and records its requests."""

    def __init__(self, *answers):
        self.answers, self.requests = list(answers), []

    def __call__(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        answer = answer(json.loads(request.content or b"{}")) if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer[0], **answer[1])


def engine(server, **options):
    return OpenAIEngine("http://judge.test/v1/", "m", transport=httpx.MockTransport(server), **options)


OK = (200, {"json": GOOD})


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(backoff, "pause_s", lambda asked_s, attempt: 0)


@pytest.fixture
async def loopback():
    server = await Loopback().open()
    yield server
    await server.kill()


async def test_request_and_reply():
    server = Server(OK)
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
    completion = await engine(Server((200, {"json": GOOD | {"choices": [choice]}}))).complete(ASK, Params(1))
    assert [[(each.text, each.logprob) for each in row] for row in completion.alternatives] == [
        [("a", -0.5), ("b", -2.0)]
    ]


async def test_truncated_reasoning_is_empty_text():
    choice = {"message": {"content": None, "reasoning": "Hm"}, "finish_reason": "length"}
    completion = await engine(Server((200, {"json": {"choices": [choice]}}))).complete(ASK, Params(1))
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
        await engine(Server(answer), api_key="secret").complete(ASK, Params(1))
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 100 tokens. However, your prompt contains at least 120 input "
        "tokens, which exceeds this limit even without any output tokens.",
        "You passed 120 input tokens and requested 20 output tokens. However, the model's context length is "
        "only 100 tokens, resulting in a maximum input length of 80 tokens.",
        "The input (120 tokens) is longer than the model's context length (100 tokens).",
        "Requested token count exceeds the model's maximum context length of 100 tokens. You requested a "
        "total of 140 tokens: 120 tokens from the input messages and 20 tokens for the completion.",
        "request (120 tokens) exceeds the available context size (100 tokens), try increasing it",
    ],
    ids=["vllm, input alone", "vllm", "sglang, input alone", "sglang", "llama.cpp"],
)
async def test_too_long_prompt_names_sizes(message):
    with pytest.raises(PromptTooLong, match=r"has 120 tokens .* take 20, .* holds 100"):
        await engine(Server((400, {"json": {"error": {"message": message}}}))).complete(ASK, Params(20))


async def test_too_long_prompt_without_sizes():
    with pytest.raises(BadTask, match="too long"):
        await engine(Server((400, {"text": "the prompt is too long"}))).complete(ASK, Params(1))


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("passing", [(429, {}), (503, {}), httpx.ConnectError("x")], ids=str)
async def test_transient_errors_are_retried(passing):
    server = Server(passing, passing, OK)
    assert (await engine(server).complete(ASK, Params(1))).text == "Hi"
    assert len(server.requests) == 3


async def test_rejected_requests_are_not_retried():
    server = Server((400, {"text": "bad"}))
    with pytest.raises(EngineError):
        await engine(server).complete(ASK, Params(1))
    assert len(server.requests) == 1


async def test_dropped_connection_is_retried(loopback):
    loopback.dropping = 1
    remote = OpenAIEngine(loopback.url, "m")
    assert (await remote.complete(ASK, Params(1))).text == "A"
    assert len(loopback.requests) == 2
    await remote.close()


async def test_retry_after_is_honoured():
    server = Server((429, {"headers": {"Retry-After": "1"}}), OK)
    began = time.monotonic()
    await engine(server).complete(ASK, Params(1))
    assert 1.0 <= time.monotonic() - began < 2.0


@pytest.mark.parametrize(
    ("retry_after", "timeout_s"), [("120", 300.0), ("1", 0.5)], ids=["too long to wait", "past the end"]
)
async def test_too_long_retry_after_fails_at_once(retry_after, timeout_s):
    server = Server((503, {"headers": {"Retry-After": retry_after}}), OK)
    began = time.monotonic()
    with pytest.raises(EngineUnreachable, match="503"):
        await engine(server, timeout_s=timeout_s).complete(ASK, Params(1))
    assert time.monotonic() - began < 0.4
    assert len(server.requests) == 1


async def test_timeout_includes_retries():
    failures = [httpx.ConnectError("refused")]

    async def then_slow(request):
        if failures:
            raise failures.pop()
        await asyncio.sleep(5)

    began = time.monotonic()
    with pytest.raises(EngineUnreachable, match="in time"):
        await engine(then_slow, timeout_s=1.0).complete(ASK, Params(1))
    assert 0.9 < time.monotonic() - began < 2.0
    assert not failures


async def test_cancelling_closes_the_connection(loopback):
    loopback.delay_s = 30.0
    remote = OpenAIEngine(loopback.url, "m")
    running = asyncio.create_task(remote.complete(ASK, Params(1)))
    while not loopback.in_flight:
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    while not loopback.disconnects:
        await asyncio.sleep(0.01)
    await remote.close()


async def test_connections_bound_concurrency(loopback):
    loopback.delay_s = 0.5
    remote = OpenAIEngine(loopback.url, "m", connections=300)
    await asyncio.gather(*(remote.complete(ASK, Params(1)) for _ in range(320)))
    assert loopback.max_in_flight == 300
    await remote.close()


async def test_first_listed_model_is_the_default():
    server = Server(lambda body: OK if body else (200, {"json": {"data": [{"id": "listed"}]}}))
    remote = OpenAIEngine("http://judge.test/v1", transport=httpx.MockTransport(server))
    await remote.start()
    assert remote.model == "listed"


async def test_start_without_the_model_raises():
    with pytest.raises(ModelNotLoaded, match=r"judge\.test.*does not serve m.*no such model"):
        await engine(Server((404, {"text": "no such model"}))).start()


async def test_start_without_models_raises():
    remote = OpenAIEngine(
        "http://judge.test/v1", transport=httpx.MockTransport(Server((200, {"json": {"data": []}})))
    )
    with pytest.raises(ModelNotLoaded, match="GRM_OPENAI_MODEL"):
        await remote.start()


async def test_missing_features_are_logged(caplog):
    caplog.set_level("INFO", "grm_service")
    await engine(Server(OK)).start()
    assert (
        "http://judge.test/v1 serves m; missing features: continues, constrains, alternatives" in caplog.text
    )


async def test_identical_samples_are_logged(caplog):
    await engine(Server(OK)).start()
    assert "same text for every seed" in caplog.text


async def test_ignored_seeds_are_logged(caplog):
    texts = iter(range(100))
    reply = lambda body: (200, {"json": {"choices": [{"message": {"content": str(next(texts))}}]}})  # noqa: E731
    await engine(Server(reply)).start()
    assert "does not return the same text for the same seed" in caplog.text
