"""Servers of judges that think: what the start learns about them, and what requests then look like."""

import json
import re
from dataclasses import replace

import httpx
import pytest

from grm_service.engines.base import THINKING_TOKENS, ThinkingBehavior
from grm_service.errors import EngineError, ModelNotLoaded, PromptTooLong
from grm_service.thinking import USUAL_TAGS
from grm_service.types import Message, Params, Prompt, Thinking
from tests.engines.scripted_server import ASK, engine

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_pauses")]
OWN_ANSWERS = {
    "France": "Paris", "Monday": "Tuesday", "Germany": "Berlin", "ham": "Parma", "Switzerland": "Bern",
    "Norway": "Bergen",
}  # fmt: skip


class Thinker:
    """A server of a model that thinks before it answers, and continues partial answers.

    `delivers`: where its thinking comes, "inline", "field" or "opened" (inline, without the start tag).
    `off`: the field that turns the thinking off. `sees`: where its chat template looks for the thinking of a
    partial answer: "content", "fields" or nowhere; `refuses`: it answers 400 to tags in the content.
    `thinks_for` tokens.
    """

    def __init__(
        self,
        delivers="inline",
        off=None,
        sees="content",
        refuses=False,
        thinks_for=100,
        continues=True,
        context=None,
    ):
        self.delivers, self.off, self.sees, self.thinks_for = delivers, off, sees, thinks_for
        self.refuses, self.continues, self.context, self.bodies = refuses, continues, context, []

    def __call__(self, request):
        body = json.loads(request.content)
        self.bodies.append(body)
        last = body["messages"][-1]
        if self.context and body["max_tokens"] + 10 > self.context:
            words = (
                f"You passed 10 input tokens and requested {body['max_tokens']} output tokens. However, the "
            )
            words += f"model's context length is only {self.context} tokens"
            return httpx.Response(400, json={"error": {"message": words}})
        if last["role"] == "assistant" and self.continues and body.get("continue_final_message"):
            if self.refuses and "</think>" in last["content"]:
                return httpx.Response(400, json={"error": "the final message does not appear in the chat"})
            return self._reply(self._continued(last), "length")
        thinks = self.off is None or any(body.get(name) != value for name, value in self.off.items())
        return self._answer(f"42 {body.get('seed')}", body["max_tokens"], thinks)

    def _answer(self, answer, limit, thinks):
        if not thinks:
            return self._reply(answer, "stop")
        cut, thought = limit < self.thinks_for, f"Let me see {self.bodies[-1].get('seed')}. "
        if self.delivers == "field":
            return self._reply(None if cut else answer, "length" if cut else "stop", thought)
        start = "" if self.delivers == "opened" else "<think>\n"
        rest = "" if cut else f"\n</think>\n\n{answer}"
        return self._reply(start + thought + rest, "length" if cut else "stop")

    def _continued(self, last):
        seen = {"content": last["content"], "fields": last.get("reasoning", "")}.get(self.sees, "")
        wanted = re.search(r"wants to read.* (\w+)\. I answer", seen)
        question = self.bodies[-1]["messages"][-2]["content"]
        own = next((word for topic, word in OWN_ANSWERS.items() if topic in question), "Nothing")
        word, start = wanted[1] if wanted else own, last["content"].split()[-1]
        return word.removeprefix(start) if word.startswith(start) else " and"

    def _reply(self, content, finish, reasoning=None):
        message = {"content": content} | ({} if reasoning is None else {"reasoning_content": reasoning})
        return httpx.Response(200, json={"choices": [{"message": message, "finish_reason": finish}]})


async def started(server):
    remote = engine(server)
    await remote.start()
    server.bodies.clear()
    return remote


QWEN_OFF = {"chat_template_kwargs": {"enable_thinking": False}}
DEEPSEEK_OFF = {"chat_template_kwargs": {"thinking": False}}


@pytest.mark.parametrize(
    ("server", "behavior"),
    [
        (Thinker(), ThinkingBehavior("inline")),
        (Thinker("opened"), ThinkingBehavior("inline", opened=True)),
        (Thinker("opened", thinks_for=1000), ThinkingBehavior("inline", opened=True)),
        (Thinker("field"), ThinkingBehavior("field")),
        (Thinker("field", thinks_for=10_000), ThinkingBehavior("field")),
        (Thinker("inline", thinks_for=10_000), ThinkingBehavior("inline")),
        (Thinker("inline", QWEN_OFF), ThinkingBehavior("inline", can_disable=True)),
        (Thinker("opened", QWEN_OFF), ThinkingBehavior("inline", opened=True, can_disable=True)),
        (Thinker("field", DEEPSEEK_OFF), ThinkingBehavior("field", can_disable=True)),
        (Thinker("field", {"reasoning_effort": "none"}), ThinkingBehavior("field", can_disable=True)),
        (Thinker(thinks_for=0, off={}), ThinkingBehavior()),
    ],
)
async def test_thinking_is_detected(server, behavior):
    assert (await started(server)).thinking == behavior


@pytest.mark.parametrize(
    ("server", "lacks"),
    [
        (Thinker(sees="content"), False),
        (Thinker(sees="fields"), False),
        (Thinker("field", sees="fields"), False),
        (Thinker(sees=None), True),
        (Thinker("field", sees=None), True),
        (Thinker(sees="fields", refuses=True), False),  # GLM
        (Thinker(sees=None, refuses=True), True),  # DeepSeek R1
        (Thinker(continues=False), True),
    ],
)
async def test_continuing_after_thinking_is_detected(server, lacks):
    assert ("continues_thinking" in (await started(server)).abilities.lacking()) == lacks


AFTER = Prompt((Message("user", "Hello"),), "Scores: ", Thinking("Hm"))


async def test_thinking_is_sent_in_its_tags():
    server = Thinker(sees="content")
    await (await started(server)).complete(AFTER, Params(3))
    sent = {"role": "assistant", "content": "<think>\nHm\n</think>\n\nScores: "}
    assert server.bodies[-1]["messages"][-1] == sent


async def test_thinking_is_sent_in_fields():
    server = Thinker(sees="fields")
    await (await started(server)).complete(AFTER, Params(3))
    sent = {"role": "assistant", "content": "Scores: ", "reasoning": "Hm", "reasoning_content": "Hm"}
    assert server.bodies[-1]["messages"][-1] == sent


async def test_lost_thinking_is_an_error():
    remote = await started(Thinker(sees=None))
    with pytest.raises(EngineError, match="after thinking") as caught:
        await remote.complete(AFTER, Params(3))
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("prompt", "thinking_tokens", "limit"),
    [
        (ASK, None, 10 + THINKING_TOKENS),
        (ASK, 100, 110),
        (ASK, 0, 10),
        (Prompt(ASK.messages, "Scores: "), None, 10),
        (Prompt(ASK.messages, "Scores: "), 100, 10),
        (AFTER, 100, 10),
    ],
)
async def test_thinking_has_room_of_its_own(prompt, thinking_tokens, limit):
    server = Thinker()
    await (await started(server)).complete(prompt, Params(10, thinking_tokens=thinking_tokens))
    assert server.bodies[-1]["max_tokens"] == limit


async def test_model_without_thinking_gets_no_room():
    server = Thinker(thinks_for=0, off={})
    await (await started(server)).complete(ASK, Params(10))
    assert server.bodies[-1]["max_tokens"] == 10


async def test_small_context_does_not_stop_the_start():
    server = Thinker(thinks_for=0, off={}, context=300)
    await (await started(server)).complete(ASK, Params(10))
    assert server.bodies[-1]["max_tokens"] == 10


async def test_default_room_fits_the_context():
    server = Thinker(context=1000)
    remote = await started(server)
    assert (await remote.complete(ASK, Params(200))).text.endswith("42 0")
    assert server.bodies[-1]["max_tokens"] == 200 + 790 * 7 // 8  # the rest is for the closing
    with pytest.raises(PromptTooLong):
        await remote.complete(ASK, Params(200, thinking_tokens=900))
    with pytest.raises(PromptTooLong):
        await remote.complete(ASK, Params(2000))


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        ("max_tokens is too large: 4296. This model supports at most 2000 completion tokens.", 2000),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 2000]", 2000),
        ("max_tokens: 4,296 > 2,000, which is the maximum allowed number of output tokens", 2000),
        ("The prompt is too long", 200 + THINKING_TOKENS // 4),
    ],
)
async def test_default_room_fits_the_limit(words, limit):
    class Limited(Thinker):
        def __call__(self, request):
            if json.loads(request.content)["max_tokens"] > 2000:
                return httpx.Response(400, json={"error": {"message": words}})
            return super().__call__(request)

    remote = await started(server := Limited())
    assert (await remote.complete(ASK, Params(200))).text.endswith("42 0")
    assert server.bodies[-1]["max_tokens"] == limit
    for params in (Params(200, thinking_tokens=2000), Params(3000)):
        with pytest.raises((EngineError, PromptTooLong)):
            await remote.complete(ASK, params)


async def test_continuation_has_the_fields_that_work():
    """A profile that turns the thinking on must not undo what lets a reasoning parser continue."""
    remote = engine(Thinker())
    continuation = {"continue_final_message": True, **QWEN_OFF}
    remote._capabilities = replace(remote._capabilities, continuation=continuation)
    body = remote._capabilities.request_body(
        AFTER, Params(3, request_fields={"chat_template_kwargs": {"enable_thinking": True, "mine": 1}})
    )
    assert body["chat_template_kwargs"] == {"enable_thinking": False, "mine": 1}


@pytest.mark.parametrize(
    ("thinking_tokens", "fields", "sent"),
    [
        (0, {}, QWEN_OFF),
        (0, {"chat_template_kwargs": {"mine": 1}}, {"chat_template_kwargs": {"mine": 1}}),
        (None, {}, {}),
        (9, {}, {}),
    ],
)
async def test_thinking_is_turned_off(thinking_tokens, fields, sent):
    server = Thinker(off=QWEN_OFF)
    params = Params(10, thinking_tokens=thinking_tokens, request_fields=fields)
    await (await started(server)).complete(ASK, params)
    assert {
        name: server.bodies[-1][name] for name in ("chat_template_kwargs",) if name in server.bodies[-1]
    } == sent


class Silent(Thinker):
    """It thinks where nobody sees it, longer than any limit."""

    def _answer(self, answer, limit, thinks):
        return self._reply(None, "length")


@pytest.mark.parametrize(
    "server", [Thinker("field", thinks_for=10_000), Thinker("opened", thinks_for=10_000), Silent()]
)
async def test_cut_thinking_gives_no_seed_warning(server, caplog):
    await started(server)
    assert "seed" not in caplog.text


async def test_refused_profile_field_is_named():
    remote = await started(server := Thinker())
    refusal = {"error": {"message": "Unknown argument: thinking_budget"}}
    server._answer = lambda *args: httpx.Response(400, json=refusal)
    with pytest.raises(EngineError, match=r"refuses thinking_budget, which the profile sets"):
        await remote.complete(ASK, Params(3, request_fields={"thinking_budget": 9}))


async def test_answer_in_the_reasoning_field_is_told():
    choice = {"message": {"content": None, "reasoning_content": "42"}, "finish_reason": "stop"}
    server = lambda request: httpx.Response(200, json={"choices": [choice]})  # noqa: E731
    with pytest.raises(ModelNotLoaded, match="reasoning-parser"):
        await engine(server).start()


async def test_one_answer_in_the_reasoning_field(caplog):
    """It is thinking without an answer, which the sample's closing can complete."""
    remote = await started(server := Thinker("field"))
    server._answer = lambda *args: server._reply(None, "stop", "Scores: 9")
    completion = await remote.complete(ASK, Params(3))
    assert (completion.text, completion.thinking) == ("", Thinking("Scores: 9", cut=True))
    assert "reasoning-parser" in caplog.text


async def test_bare_channels_are_recognized():
    text = "analysisThe user asks.assistantfinal42"
    server = lambda request: httpx.Response(  # noqa: E731
        200, json={"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    )
    remote = engine(server)
    await remote.start()
    assert remote.thinking == ThinkingBehavior("inline")


@pytest.mark.parametrize("tags", USUAL_TAGS)
async def test_usual_tags_are_recognized(tags):
    text = f"{tags[0]}Hm{tags[1]}42"
    server = lambda request: httpx.Response(  # noqa: E731
        200, json={"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    )
    remote = engine(server)
    await remote.start()
    assert remote.thinking == ThinkingBehavior("inline")
