"""A model's server that refuses: what callers, logs and held requests get; and passwords in addresses."""

import base64
import contextlib
import json

import pytest

from grm_service.errors import ContentFiltered, UpstreamDenied, UpstreamRefused
from tests.api.helpers import failing
from tests.engines.habits import Habitual, answer, reply

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60), pytest.mark.usefixtures("short_pauses")]
SECRET = "the caller's own words"
TASK = {"query": f"Is this so: {SECRET}?", "responses": ["GOOD", "bad"], "k": 2}
ECHO = {"message": f"invalid input: {SECRET}", "code": SECRET, "type": "invalid_request_error"}


@pytest.fixture
def judge_with(serve):
    """Return a function that serves with a server that answers prompts with the caller's words so."""

    @contextlib.asynccontextmanager
    async def _judge_with(status, body, address=lambda url: url):
        def habit(server, request):
            echoes = SECRET in json.dumps(request, ensure_ascii=False)
            return (status, body) if echoes else reply({"content": answer(request)})

        server = await Habitual(habit).open()
        url = address(server.url)
        try:
            async with serve(engine="openai", openai_base_url=url, profile="generic-judge") as client:
                client.server = server
                yield client
        finally:
            await server.kill()

    return _judge_with


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {"error": ECHO}, "upstream_refused"),
        (422, {"detail": [{"loc": ["body"], "msg": SECRET, "input": SECRET}]}, "upstream_refused"),
        (400, {"error": ECHO | {"message": f"too long prompt: {SECRET} is too long"}}, "prompt_too_long"),
        (401, {"error": ECHO}, "upstream_refused"),
        (500, {"error": ECHO}, "engine_failed"),
        (200, {"error": ECHO | {"code": 500}}, "engine_failed"),
        (200, {"error": ECHO | {"type": "?"}}, "engine_failed"),
        (200, {"choices": [{"message": {"content": 7, "echo": SECRET}}]}, "engine_failed"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/rewards", "/v1/principles", "/v1/improve"])
async def test_words_of_a_server_are_not_logged(judge_with, caplog, status, body, code, path):
    caplog.set_level("DEBUG", "grm_service")
    async with judge_with(status, body) as client:
        problem = (
            await client.post(path, json=TASK if path == "/v1/rewards" else {"query": TASK["query"]})
        ).json()
        metrics = (await client.get("/metrics")).text
    assert not problem["code"].startswith("internal")
    if path == "/v1/rewards":
        assert problem["code"] == code
        assert problem["retryable"] == (code == "engine_failed")
    assert SECRET not in caplog.text
    assert SECRET not in metrics
    if status >= 400:
        assert SECRET in problem["detail"]


async def test_other_items_of_a_batch_are_judged(judge_with):
    items = [TASK, TASK | {"query": "Is this so?"}]
    async with judge_with(400, {"error": {"message": "no", "code": "content_filter"}}) as client:
        refused, judged = (await client.post("/v1/rewards/batch", json=items)).json()
    assert (refused["error"]["code"], refused["error"]["retryable"]) == ("content_filtered", False)
    assert judged["rewards"] == [9, 2]


TURNS = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A"}]
DOORS = {
    "/get_reward": {"query": ["Q? A"], "prompts": ["Q? "], "labels": [""]},
    "/slime": {"prompt": "Q?", "response": "A"},
    "/classify": {"messages": TURNS},
    "/v1/embeddings": {"messages": TURNS},
}


@pytest.mark.parametrize("error", [ContentFiltered, UpstreamRefused, UpstreamDenied])
@pytest.mark.parametrize("path", DOORS)
async def test_held_request_is_not_repeated(serve, path, error):
    async with serve() as client:
        calls = []

        async def complete(prompt, params):
            calls.append(params)
            raise error("it refuses", "for a reason")

        client.service.engine.complete = complete
        refused = await client.post(f"{path}?k=2&window_s=0", json=DOORS[path])
    assert (refused.status_code, refused.json()["code"]) == (422, error.code)
    assert "for a reason" in refused.json()["detail"]
    assert len(calls) == 2


@pytest.mark.parametrize(("error", "status"), [(ContentFiltered, 200), (UpstreamDenied, 422)])
async def test_nemo_gym_masks_single_rows_only(serve, error, status):
    row = {
        "responses_create_params": {"input": [{"role": "user", "content": "Q?"}]},
        "response": {"output": [{"role": "assistant", "content": "A"}]},
        "_ng_task_index": 0,
    }
    async with serve() as client:
        client.service.engine.complete = failing(error("it refuses"))
        masked = await client.post("/verify?k=2&window_s=0", json=row)
    assert masked.status_code == status
    assert error.code in masked.text


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_password_is_used_but_not_shown(judge_with, caplog, status):
    caplog.set_level("DEBUG", "grm_service")
    body = {"error": {"message": "no", "code": "x"}}
    async with judge_with(status, body, lambda url: url.replace("//", "//user:pass%20word@")) as client:
        tasks = (TASK, TASK | {"query": "Q?"})
        shown = [(await client.post("/v1/rewards", json=task)).text for task in tasks]
        shown += [(await client.get(path)).text for path in ("/readyz", "/metrics", "/v1/profiles")]
        heads = client.server.heads
    basic = base64.b64encode(b"user:pass word").decode()
    assert all(f"authorization: basic {basic.lower()}" in head for head in heads)
    for text in (*shown, caplog.text):
        assert "word@" not in text
        assert basic not in text
