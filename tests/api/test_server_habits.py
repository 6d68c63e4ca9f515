"""Servers with the habits of real ones, judged with through the API."""

import contextlib

import pytest

from tests.engines.habits import Habitual, answer, broken_word, critique, draft, refuse, reply, scores

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60), pytest.mark.usefixtures("short_pauses")]
TASK = {"query": "What is the capital of Australia?", "responses": ["GOOD", "bad"], "k": 2}


@pytest.fixture
def judge_with(serve):
    """Return a function that serves with a server of a habit: `async with judge_with(habit) as client`."""

    @contextlib.asynccontextmanager
    async def _judge_with(habit):
        server = await Habitual(habit).open()
        try:
            async with serve(engine="openai", openai_base_url=server.url, profile="generic-judge") as client:
                yield client
        finally:
            await server.kill()

    return _judge_with


def no_content_until_200_tokens(server, body):
    if body["max_tokens"] < 200:
        return reply({"reasoning_content": "Okay"}, "length")
    return reply({"content": answer(body)})


def no_message_until_200_tokens(server, body):
    if body["max_tokens"] < 200:
        return reply(None, "length", usage={"prompt_tokens": 9, "total_tokens": 10})
    return reply({"content": answer(body)})


def list_content(server, body):
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": draft(body)}]}
    return reply({"content": [thinking, {"type": "text", "text": answer(body)}]})


def newer_fields(server, body):
    if "max_tokens" in body:
        return refuse("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.", param="max_tokens")
    if body.get("temperature", 1) != 1:
        return refuse("'temperature' does not support 0.5. Only the default (1) value is supported.")
    return reply({"content": answer(body)})


def no_seed(server, body):
    if "seed" in body:
        return refuse('Invalid JSON payload received. Unknown name "seed": Cannot find field.')
    if set(body) - {"model", "messages", "max_tokens", "temperature", "top_p"}:
        return refuse("Unknown name: Cannot find field.")
    return reply({"content": answer(body)})


def extra_forbidden(server, body):
    for field in body:
        if field not in ("model", "messages", "max_tokens", "temperature"):
            detail = {
                "type": "extra_forbidden",
                "loc": ["body", field],
                "msg": "Extra inputs are not permitted",
            }
            return 422, {"detail": [detail]}
    return reply({"content": answer(body)})


def no_system(server, body):
    if any(message["role"] == "system" for message in body["messages"]):
        return refuse("System role not supported")
    return reply({"content": answer(body)})


def no_usage(server, body):
    return reply({"content": answer(body)}, usage=None)


@pytest.mark.parametrize(
    ("habit", "dropped"),
    [
        (no_content_until_200_tokens, []),
        (no_message_until_200_tokens, []),
        (list_content, []),
        (newer_fields, ["temperature"]),
        (no_seed, ["seed"]),
        (extra_forbidden, ["min_p", "repetition_penalty", "seed", "top_k", "top_p"]),
        (no_system, []),
        (no_usage, []),
    ],
)
async def test_server_starts_and_judges(judge_with, habit, dropped):
    async with judge_with(habit) as client:
        ready = (await client.get("/readyz")).json()
        verdict = (await client.post("/v1/rewards", json=TASK)).json()
    assert list(ready["dropped_fields"]) == dropped
    assert (verdict["best"], verdict["rewards"]) == (0, [9.0, 2.0])


async def test_unknown_tokens_are_null(judge_with):
    async with judge_with(no_usage) as client:
        verdict = (await client.post("/v1/rewards", json=TASK)).json()
        usage = (await client.get("/v1/usage")).json()["usage"]
        metrics = (await client.get("/metrics")).text
    unknown = dict.fromkeys(("prompt_tokens", "cached_tokens", "completion_tokens"))
    assert verdict["usage"] == usage == unknown
    assert [sample["completion_tokens"] for sample in verdict["samples"]] == [None, None]
    assert 'grm_tokens_total{kind="completion"} 0.0' in metrics


def thinker(refuses_thinking=False, field=False):
    """A judge that thinks, behind a server that continues; its template may refuse thinking."""

    def habit(server, body):
        last, rest = body["messages"][-1], broken_word(body)
        if refuses_thinking and last["role"] == "assistant" and "</think>" in last["content"]:
            return refuse("The final message does not appear in the chat after applying the chat template!")
        if rest is not None:
            return reply({"content": rest}, "length")
        if body.get("logprobs"):
            return reply({"content": "9"}, "length", logprobs=True)
        thought = f"Let me see {body.get('seed')}. {draft(body) if scores(body) else ''}"
        if field:
            return reply({"content": f"\n\n{answer(body)}", "reasoning_content": thought})
        return reply({"content": f"<think>\n{thought}\n</think>\n\n{answer(body)}"})

    return habit


@pytest.mark.parametrize("refuses", [True, False])
async def test_readyz_says_whether_thinking_is_continued(judge_with, refuses):
    async with judge_with(thinker(refuses)) as client:
        lacks = (await client.get("/readyz")).json()["lacks"]
        verdict = (await client.post("/v1/rewards", json=TASK)).json()
    assert ("continues_thinking" in lacks) == refuses
    assert (verdict["best"], verdict["rewards"]) == (0, [9.0, 2.0])


async def test_soft_scores_without_continued_thinking_are_refused(judge_with):
    async with judge_with(thinker(refuses_thinking=True)) as client:
        refused = (await client.post("/v1/rewards", json=TASK | {"score": "soft"})).json()
        hard = (await client.post("/v1/rewards", json=TASK)).json()
    assert refused["code"] == "soft_not_served"
    assert hard["rewards"] == [9.0, 2.0]


async def test_reasoning_parser_gives_no_false_warning(judge_with, caplog):
    async with judge_with(thinker(field=True)) as client:
        verdict = (await client.post("/v1/rewards", json=TASK)).json()
    assert verdict["rewards"] == [9.0, 2.0]
    assert "every seed" not in caplog.text


def always_thinking(server, body):
    return reply({"content": None, "reasoning": f"Hm {body['seed']}"}, "length")


async def test_endless_thinking_is_unreadable(judge_with, caplog):
    async with judge_with(always_thinking) as client:
        problem = (await client.post("/v1/rewards", json=TASK)).json()
    assert (problem["code"], problem["reasons"]) == ("all_unreadable", {"cut_in_thinking": 2})
    assert "every seed" not in caplog.text


def principles_after_thinking(cut):
    """A judge whose thinking lists principles that it rejects."""

    def habit(server, body):
        if scores(body):
            return reply({"content": f"<think>ok</think>{critique(scores(body))}"})
        if "principles" not in body["messages"][-1]["content"]:
            return reply({"content": f"<think>{body.get('seed')}</think>42"})
        rejected = "<think>\nWhich fit?\n1. Perhaps that the answer flatters? No.\n2. Longer answers are"
        if cut:
            return reply({"content": rejected}, "length")
        return reply({"content": f"{rejected} better? No.\n</think>\n\n1. It names the right city."})

    return habit


@pytest.mark.parametrize("cut", [False, True])
async def test_rejected_principles_are_not_principles(judge_with, cut):
    async with judge_with(principles_after_thinking(cut)) as client:
        task = TASK | {"principles": {"mode": "query"}}
        verdict = (await client.post("/v1/rewards", json=task)).json()
    if cut:
        assert verdict["code"] == "principles_unreadable"
    else:
        assert [each["text"] for each in verdict["principles"]] == ["It names the right city."]
