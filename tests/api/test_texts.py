"""Every door reads every shape of turns, responses and references as the same text (tests/turn_table.py)."""

import json
from itertools import count

import pytest

from tests.turn_table import CALL, IMAGES, NULL, TEXTS, TRAJECTORY, TRAJECTORY_TEXT, turn

pytestmark = pytest.mark.anyio
QUERY = "How warm is it?"
ASK = {"role": "user", "content": QUERY}
NUMBERS = count()


def fresh():
    """A query that was not judged before: equal requests are answered from the last verdict."""
    return f"{QUERY} {next(NUMBERS)}"


def ask():
    return {"role": "user", "content": fresh()}


def rewards(response):
    return "/v1/rewards", {"query": fresh(), "responses": [response], "k": 1}


def batch(response):
    return "/v1/rewards/batch", [rewards(response)[1]]


def stream(response):
    return "/v1/rewards", rewards(response)[1] | {"stream": True}


def with_id(response):
    named = {"messages": response} if isinstance(response, list) else response
    named = {"content": response} if isinstance(response, str) else named
    return rewards(named | {"id": "a"} if isinstance(named, dict) else named)


def single(response):
    return "/v1/rewards/single?k=1&window_s=0.01", {"messages": [ask()], "response": response}


def chat(response):
    return "/v1/chat/completions?k=1", {"messages": [ask(), response]}


def classify(response):
    return "/classify?k=1&window_s=0", {"messages": [ask(), response]}


def embeddings(response):
    return "/v1/embeddings?k=1&window_s=0", {"messages": [ask(), response]}


def verify(response):
    output = response if isinstance(response, list) else [response]
    return "/verify?k=1&window_s=0", {
        "responses_create_params": {"input": [ask()]},
        "response": {"output": output},
    }


def compare(response):
    output = response if isinstance(response, list) else [response]
    return "/compare?k=1", {"conversation_history": [ask()], "response_objs": [{"output": output}]}


def rerank(response):
    return "/rerank?k=1", {"query": fresh(), "documents": [response]}


NATIVE = [rewards, batch, stream, with_id, single]
DOORS = [*NATIVE, chat, classify, embeddings, verify, compare, rerank]


async def judged(client, door, response):
    """Post a response to a door, and return the request as it was judged."""
    path, body = door(response)
    reply = await client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    summary = (await client.get("/v1/verdicts")).json()["verdicts"][0]
    return (await client.get(f"/v1/verdicts/{summary['id']}")).json()["request"]


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
async def test_every_door_reads_every_shape(serve, door):
    async with serve() as client:
        for name, (shape, text) in TEXTS.items():
            request = await judged(client, door, shape)
            assert request["responses"] == [text], name


@pytest.mark.parametrize("door", [*NATIVE, verify, compare, rerank], ids=lambda door: door.__name__)
async def test_trajectory_is_one_response(serve, door):
    async with serve() as client:
        assert (await judged(client, door, TRAJECTORY))["responses"] == [TRAJECTORY_TEXT]


@pytest.mark.parametrize("door", [rewards, with_id, single, rerank, chat], ids=lambda door: door.__name__)
async def test_null_response_is_refused(serve, door):
    async with serve() as client:
        for null in NULL:
            path, body = door(null)
            reply = await client.post(path, json=body)
            assert reply.status_code == 422, null
            assert not reply.json()["retryable"]
        assert client.service.engine.prompts == []


async def test_native_doors_refuse_images(serve):
    async with serve() as client:
        for part in IMAGES:
            path, body = rewards(turn([part]))
            reply = await client.post(path, json=body)
            assert reply.status_code == 422
            assert "responses.0.content: part 0: a part of type" in reply.json()["detail"]
        body = {"messages": [{"role": "user", "content": [IMAGES[0]]}], "responses": ["a"]}
        reply = await client.post("/v1/rewards", json=body)
        assert "messages.0.content: part 0" in reply.json()["detail"]


@pytest.mark.parametrize("door", [chat, classify, verify, compare], ids=lambda door: door.__name__)
async def test_trainers_doors_mask_images(serve, door):
    async with serve() as client:
        for part in IMAGES:
            request = await judged(client, door, turn(["A cat", part]))
            assert request["responses"] == ["A cat\n\n[image]"]


async def test_prompt_shows_the_roles(serve):
    turns = [
        {"role": "developer", "content": "Be brief."},
        ASK,
        turn(tool_calls=[{"function": {"name": "weather", "arguments": {"city": "Rome"}}}]),
        {"role": "tool", "content": [{"type": "text", "text": "21 C"}], "tool_call_id": "c1", "name": None},
    ]
    async with serve() as client:
        reply = await client.post("/v1/rewards", json={"messages": turns, "responses": ["21"], "k": 1})
        request = (await client.get(f"/v1/verdicts/{reply.json()['id']}")).json()["request"]
        prompt = client.service.engine.prompts[0].messages[-1].content
    assert [(turn["role"], turn["content"]) for turn in request["messages"]] == [
        ("developer", "Be brief."), ("user", QUERY), ("assistant", CALL), ("tool", "21 C"),
    ]  # fmt: skip
    assert all(role in prompt for role in ("developer", "tool", CALL))


@pytest.mark.parametrize("door", [rewards, single], ids=lambda door: door.__name__)
async def test_tool_results_of_any_type(serve, door):
    async with serve() as client:
        response = [turn("Let me see."), {"role": "tool", "content": {"celsius": 21}}]
        request = await judged(client, door, response)
        assert request["responses"] == ['Let me see.\n\n```tool result\n{"celsius": 21}\n```']
        turns = [ASK, {"role": "tool", "content": [21, None]}]
        path, body = door("21")
        body = {name: value for name, value in body.items() if name != "query"} | {"messages": turns}
        request = await judged(client, lambda _: (path, body), None)
        assert request["messages"][1]["content"] == "[21, null]"


@pytest.mark.parametrize(
    ("reference", "text"),
    [(42, "42"), (True, "true"), (0.0, "0"), (["Paris"], "Paris"), ("", None), ([], None)],
)
async def test_references_of_any_type(serve, reference, text):
    async with serve() as client:
        for door in (rewards, single):
            path, body = door("21")
            request = await judged(client, lambda _: (path, body | {"reference": reference}), "21")  # noqa: B023
            assert request["reference"] == text


async def test_trainer_door_marks_imitated_blocks(serve):
    async with serve() as client:
        prompt = "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
        bodies = {
            "/get_reward?k=1&window_s=0": {"query": [prompt + CALL], "prompts": [prompt]},
            "/slime?k=1&window_s=0": {"prompt": prompt, "response": CALL},
            "/classify?k=1&window_s=0": {"input": prompt + CALL},
        }
        for path, body in bodies.items():
            request = await judged(client, lambda _: (path, body), None)  # noqa: B023
            assert request["responses"] == [CALL.replace("```tool", "```quoted tool")]


async def test_unreadable_rollout_is_masked(serve):
    async with serve() as client:
        path, row = verify(turn(5))
        reply = await client.post(path, json=row | {"_ng_task_index": 0})
        assert reply.json()["mask_sample"]
        assert "turn 0: the content must be a text" in reply.json()["failure_reason"]
        assert (await client.post(path, json=row)).status_code == 422


async def test_both_forms_of_a_response_are_refused(serve):
    async with serve() as client:
        path, body = rewards({"content": "a", "messages": [turn("b")]})
        reply = await client.post(
            path, content=json.dumps(body), headers={"Content-Type": "application/json"}
        )
    assert reply.status_code == 422
    assert "either 'messages'" in reply.json()["detail"]
