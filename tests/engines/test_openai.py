import json

import httpx
import pytest

from grm_service.engines import openai
from grm_service.engines.openai import OpenAIEngine
from grm_service.errors import BadTask, EngineError, EngineUnreachable, ModelNotLoaded, PromptTooLong
from grm_service.types import Message, Params, Prompt

pytestmark = pytest.mark.anyio
ASK = Prompt((Message("user", "Hello"),))
GOOD = {
    "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
}


class Server:
    """Answers from a list, the last one for ever, and keeps what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, request):
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        answer = answer(json.loads(request.content or b"{}")) if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer[0], **answer[1])


def engine(server, **options):
    return OpenAIEngine("http://judge.test/v1/", "m", transport=httpx.MockTransport(server), **options)


OK = (200, {"json": GOOD})


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(openai, "_pause", lambda retry_after, attempt: 0)


async def test_what_is_sent_and_read():
    server = Server(OK)
    completion = await engine(server, api_key="k").complete(
        Prompt((Message("user", "Hello"),), "Scores: "), Params(9, 0.5, 0.9, 7, regex="[0-9]")
    )
    (request,) = server.asked
    assert str(request.url) == "http://judge.test/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer k"
    assert json.loads(request.content) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Scores: "}],
        "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 7,
        "continue_final_message": True, "add_generation_prompt": False,
        "structured_outputs": {"regex": "[0-9]"},
    }  # fmt: skip
    assert (completion.text, completion.finish_reason) == ("Hi", "stop")
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (3, 1)


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        ((401, {"text": "no"}), EngineError, "GRM_OPENAI_API_KEY"),
        ((404, {"text": "no such model"}), EngineError, "no such model"),
        (
            (400, {"text": "This model's maximum context length is 100 tokens, you asked for 120 tokens"}),
            PromptTooLong,
            "120",
        ),
        ((400, {"text": "the prompt is too long"}), BadTask, "too long"),
        ((500, {"text": "oops"}), EngineUnreachable, "500: oops"),
        ((429, {"text": "busy"}), EngineUnreachable, "429: busy"),
        (httpx.ConnectError("refused"), EngineUnreachable, "cannot be reached: refused"),
        (httpx.ReadTimeout("slow"), EngineUnreachable, "did not answer in time"),
        ((200, {"text": "<html>"}), EngineError, "not JSON"),
        ((200, {"json": []}), EngineError, "not an object"),
        ((200, {"json": {"choices": []}}), EngineError, "no completion"),
        ((200, {"json": {"choices": [{"message": {"content": None}}]}}), EngineError, "no completion"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_each_failure_is_named(answer, error, says):
    with pytest.raises(error) as caught:
        await engine(Server(answer), api_key="secret").complete(ASK, Params(1))
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("passing", [(429, {}), (503, {}), httpx.ConnectError("x")], ids=str)
async def test_passing_failures_are_tried_again(passing):
    server = Server(passing, passing, OK)
    assert (await engine(server).complete(ASK, Params(1))).text == "Hi"
    assert len(server.asked) == 3


async def test_what_is_wrong_is_not_tried_again():
    server = Server((400, {"text": "bad"}))
    with pytest.raises(EngineError):
        await engine(server).complete(ASK, Params(1))
    assert len(server.asked) == 1


@pytest.mark.parametrize("lacking", ["continue_final_message", "structured_outputs", None])
async def test_what_a_server_lacks_is_found_out_at_the_start(lacking):
    server = Server(lambda body: (422, {"text": "unknown field"}) if lacking in body else OK)
    remote = engine(server)
    await remote.start()
    assert remote.abilities.continues is (lacking != "continue_final_message")
    if remote.abilities.continues:
        await remote.complete(Prompt(ASK.messages, "x"), Params(1, regex="a"))
        assert ("structured_outputs" in json.loads(server.asked[-1].content)) is (lacking is None)
    else:
        with pytest.raises(EngineError):
            await remote.complete(Prompt(ASK.messages, "x"), Params(1))


async def test_the_first_listed_model_is_taken_when_none_is_named():
    server = Server(lambda body: OK if body else (200, {"json": {"data": [{"id": "listed"}]}}))
    remote = OpenAIEngine("http://judge.test/v1", transport=httpx.MockTransport(server))
    await remote.start()
    assert remote.model == "listed"


async def test_a_server_without_the_model_stops_the_start():
    with pytest.raises(ModelNotLoaded, match=r"judge\.test.*does not serve m.*no such model"):
        await engine(Server((404, {"text": "no such model"}))).start()


async def test_a_server_that_lists_nothing_stops_the_start():
    remote = OpenAIEngine(
        "http://judge.test/v1", transport=httpx.MockTransport(Server((200, {"json": {"data": []}})))
    )
    with pytest.raises(ModelNotLoaded, match="GRM_OPENAI_MODEL"):
        await remote.start()


async def test_a_server_that_does_not_sample_is_warned_of(caplog):
    await engine(Server(OK)).start()
    assert "same text for every seed" in caplog.text
