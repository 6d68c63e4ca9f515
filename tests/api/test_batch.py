"""Many requests in one body."""

import asyncio
import json

import pytest

pytestmark = pytest.mark.anyio
PATH = "/v1/rewards/batch"
LINES = "application/x-ndjson"


def item(i, **more):
    return {"id": f"item-{i}", "query": f"Question {i}?", "responses": ["yes", f"no {i}"], "k": 2} | more


def as_lines(items):
    return "".join(json.dumps(each) + "\n" for each in items).encode()


async def post(client, items, accept="*/*", lines=False):
    content = as_lines(items) if lines else json.dumps(items).encode()
    kind = LINES if lines else "application/json"
    return await client.post(PATH, content=content, headers={"Content-Type": kind, "Accept": accept})


@pytest.mark.parametrize("lines", [False, True], ids=["array", "lines"])
@pytest.mark.parametrize("accept", ["application/json", LINES])
async def test_results_come_in_the_order_of_the_items_with_their_ids(serve, lines, accept):
    items = [item(i) for i in range(150)]
    async with serve() as client:
        answer = await post(client, items, accept, lines)
        alone = (await client.post("/v1/rewards", json=item(7) | {"seed": 1} | {"id": None})).status_code
    assert answer.headers["content-type"].startswith(accept)
    results = [json.loads(line) for line in answer.text.splitlines()] if accept == LINES else answer.json()
    assert [(r["index"], r["id"]) for r in results] == [(i, f"item-{i}") for i in range(150)]
    assert all(r["status"] == "ok" and r["error"] is None for r in results)
    assert all(r["rewards"] == r["verdict"]["rewards"] for r in results)
    assert alone == 422  # an id belongs to an item of a batch


async def test_an_item_gets_what_it_would_get_alone(serve):
    async with serve() as client:
        batch = (await post(client, [item(1), item(2)])).json()
    async with serve() as client:
        body = {name: value for name, value in item(2).items() if name != "id"}
        alone = (await client.post("/v1/rewards", json=body)).json()
    assert batch[1]["rewards"] == alone["rewards"]
    assert batch[1]["verdict"]["samples"] == alone["samples"]


BAD = [
    (item("bad", k=0), "invalid_request"),
    (item("bad", responses=[]), "invalid_request"),
    (item("bad", profile="nobody"), "unknown_profile"),
    ({"id": "item-bad"}, "invalid_request"),
    (item("bad", unknown=1), "invalid_request"),
]


@pytest.mark.parametrize("lines", [False, True], ids=["array", "lines"])
@pytest.mark.parametrize(("bad", "code"), BAD, ids=["k", "responses", "profile", "empty", "field"])
async def test_one_bad_item_spoils_nothing_else(serve, bad, code, lines):
    async with serve() as client:
        first, failed, last = (await post(client, [item(0), bad, item(2)], lines=lines)).json()
    assert (first["status"], last["status"]) == ("ok", "ok")
    assert (failed["index"], failed["id"], failed["status"]) == (1, "item-bad", "failed")
    assert (failed["rewards"], failed["verdict"]) == (None, None)
    assert failed["error"]["code"] == code


async def test_a_line_that_is_not_json_spoils_only_itself(serve):
    content = as_lines([item(0)]) + b"{nonsense\n\n" + b'"text"\n' + as_lines([item(2)])
    async with serve() as client:
        answer = await client.post(PATH, content=content, headers={"Content-Type": LINES})
    results = answer.json()
    assert [r["status"] for r in results] == ["ok", "failed", "failed", "ok"]
    assert "not JSON" in results[1]["error"]["detail"]
    assert "must be a JSON object" in results[2]["error"]["detail"]


async def test_unreadable_samples_are_null_with_a_reason(serve):
    async with serve(script="unreadable") as client:
        (result,) = (await post(client, [item(0)])).json()
    assert (result["status"], result["rewards"]) == ("failed", None)
    assert result["error"]["code"] == "all_unreadable"
    assert result["error"]["reasons"] == {"no_scores": 2}


@pytest.mark.parametrize("lines", [False, True], ids=["array", "lines"])
async def test_an_id_that_cannot_be_told_spoils_only_its_item(serve, lines):
    async with serve() as client:
        results = (await post(client, [item(0), {"id": "\ud800"}, item(2)], lines=lines)).json()
    assert [r["status"] for r in results] == ["ok", "failed", "ok"]
    assert "\ud800" not in str(results[1]["id"])


async def test_a_line_of_any_depth_spoils_only_itself(serve):
    deep = b'{"id": "deep", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}\n"
    async with serve() as client:
        content = as_lines([item(0)]) + deep + as_lines([item(2)])
        answer = await client.post(PATH, content=content, headers={"Content-Type": LINES})
    assert [r["status"] for r in answer.json()] == ["ok", "failed", "ok"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_what_a_page_can_send_unasked_is_refused(serve, kind):
    async with serve() as client:
        answer = await client.post(PATH, content=b"[]", headers={"Content-Type": kind})
    assert answer.status_code == 422
    assert "application/json" in answer.json()["detail"]


@pytest.mark.parametrize(
    "content", [b'{"query": "q", "responses": ["a"]}', b'"text"', b"", b"\xff\xfe"], ids=str
)
async def test_what_is_no_array_is_refused_and_told_of_json_lines(serve, content):
    async with serve() as client:
        answer = await client.post(PATH, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert LINES in answer.json()["detail"]


async def test_a_bug_of_ours_spoils_only_its_item(serve, monkeypatch):
    async with serve() as client:
        judge = client.service.judge

        async def buggy(task, **how):
            if "1?" in task.messages[0].content:
                raise KeyError("surprise")
            return await judge(task, **how)

        monkeypatch.setattr(client.service, "judge", buggy)
        results = (await post(client, [item(i) for i in range(3)])).json()
    assert [r["status"] for r in results] == ["ok", "failed", "ok"]
    assert results[1]["error"]["code"] == "internal"
    assert "surprise" not in str(results)


@pytest.mark.parametrize("content", [b"[{]", b"[", b'[{"query": "q"', b"[1] 2"], ids=str)
async def test_nothing_of_a_body_that_breaks_off_is_judged(serve, content):
    async with serve() as client:
        answer = await client.post(PATH, content=content, headers={"Content-Type": "application/json"})
        assert client.service.engine.prompts == []
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert "not JSON" in answer.json()["detail"]


async def test_an_empty_batch_is_an_empty_answer(serve):
    async with serve() as client:
        assert (await post(client, [])).json() == []
        assert (await post(client, [], LINES, lines=True)).text == ""


async def test_more_items_than_allowed_are_refused_before_any_is_judged(serve):
    async with serve() as client:
        answer = await post(client, [{}] * 10_001)
    assert answer.status_code == 422
    assert "10001 items" in answer.json()["detail"]


async def test_a_batch_larger_than_the_line_waits_for_it_to_move_on(serve):
    async with serve(max_samples=2, max_waiting=70) as client:
        results = (await post(client, [item(i) for i in range(200)])).json()
    assert {r["status"] for r in results} == {"ok"}


async def test_repeated_batches_get_the_same_verdicts(serve):
    async with serve() as client:
        first, second = [(await post(client, [item(0), item(1)])).json() for _ in range(2)]
    assert [r["verdict"]["id"] for r in first] == [r["verdict"]["id"] for r in second]


async def test_details_can_be_left_out(serve):
    async with serve() as client:
        (result,) = (await post(client, [item(0, detail="rewards")])).json()
    assert "samples" not in result["verdict"]


async def test_a_batch_asks_for_readiness_first(serve):
    async with serve() as client:
        client.service.drain()
        answer = await post(client, [item(0)])
        await asyncio.sleep(0)
    assert (answer.status_code, answer.json()["code"]) == (503, "draining")
