"""Batches: many requests in one body, as a JSON array or JSON Lines."""

import asyncio
import json

import pytest

pytestmark = pytest.mark.anyio
PATH = "/v1/rewards/batch"
LINES = "application/x-ndjson"


def item(i, **fields):
    return {"id": f"item-{i}", "query": f"Question {i}?", "responses": ["yes", f"no {i}"], "k": 2} | fields


def as_lines(items):
    return "".join(json.dumps(item) + "\n" for item in items).encode()


async def post(client, items, accept="*/*", lines=False):
    content = as_lines(items) if lines else json.dumps(items).encode()
    content_type = LINES if lines else "application/json"
    return await client.post(PATH, content=content, headers={"Content-Type": content_type, "Accept": accept})


@pytest.mark.parametrize("lines", [False, True], ids=["array", "lines"])
@pytest.mark.parametrize("accept", ["application/json", LINES])
async def test_results_keep_order_and_ids(serve, lines, accept):
    items = [item(i) for i in range(150)]
    async with serve() as client:
        reply = await post(client, items, accept, lines)
        alone = (await client.post("/v1/rewards", json=item(7) | {"seed": 1} | {"id": None})).status_code
    assert reply.headers["content-type"].startswith(accept)
    results = [json.loads(line) for line in reply.text.splitlines()] if accept == LINES else reply.json()
    assert [(r["index"], r["id"]) for r in results] == [(i, f"item-{i}") for i in range(150)]
    assert all(r["status"] == "ok" and r["error"] is None for r in results)
    assert all(r["rewards"] == r["verdict"]["rewards"] for r in results)
    assert alone == 422  # only items of a batch have ids


async def test_item_matches_a_single_request(serve):
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
async def test_bad_item_fails_alone(serve, bad, code, lines):
    async with serve() as client:
        first, failed, last = (await post(client, [item(0), bad, item(2)], lines=lines)).json()
    assert (first["status"], last["status"]) == ("ok", "ok")
    assert (failed["index"], failed["id"], failed["status"]) == (1, "item-bad", "failed")
    assert (failed["rewards"], failed["verdict"]) == (None, None)
    assert failed["error"]["code"] == code


async def test_invalid_line_fails_alone(serve):
    content = as_lines([item(0)]) + b"{nonsense\n\n" + b'"text"\n' + as_lines([item(2)])
    async with serve() as client:
        reply = await client.post(PATH, content=content, headers={"Content-Type": LINES})
    results = reply.json()
    assert [r["status"] for r in results] == ["ok", "failed", "failed", "ok"]
    assert "not JSON" in results[1]["error"]["detail"]
    assert "must be a JSON object" in results[2]["error"]["detail"]


@pytest.mark.parametrize("lines", [False, True], ids=["array", "lines"])
async def test_byte_order_marks_are_ignored(serve, lines):
    content = json.dumps([item(0), item(1)]).encode("utf-8-sig")
    if lines:  # two files that were joined
        content = (
            b"".join(as_lines([item(i)]).decode().encode("utf-8-sig") for i in range(2)) + b"\xef\xbb\xbf\n"
        )
    headers = {"Content-Type": LINES if lines else "application/json"}
    async with serve() as client:
        results = (await client.post(PATH, content=content, headers=headers)).json()
    assert [r["status"] for r in results] == ["ok", "ok"]


async def test_unreadable_item_has_null_rewards(serve):
    async with serve(script="unreadable") as client:
        (result,) = (await post(client, [item(0)])).json()
    assert (result["status"], result["rewards"]) == ("failed", None)
    assert result["error"]["code"] == "all_unreadable"
    assert result["error"]["reasons"] == {"no_scores": 2}


@pytest.mark.parametrize("lines", [False, True], ids=["array", "lines"])
async def test_unencodable_id_fails_alone(serve, lines):
    async with serve() as client:
        results = (await post(client, [item(0), {"id": "\ud800"}, item(2)], lines=lines)).json()
    assert [r["status"] for r in results] == ["ok", "failed", "ok"]
    assert "\ud800" not in str(results[1]["id"])


async def test_deeply_nested_line_fails_alone(serve):
    deep = b'{"id": "deep", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}\n"
    async with serve() as client:
        content = as_lines([item(0)]) + deep + as_lines([item(2)])
        reply = await client.post(PATH, content=content, headers={"Content-Type": LINES})
    assert [r["status"] for r in reply.json()] == ["ok", "failed", "ok"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_simple_content_types_are_refused(serve, content_type):
    """A web page can send these across origins without a CORS preflight."""
    async with serve() as client:
        reply = await client.post(PATH, content=b"[]", headers={"Content-Type": content_type})
    assert reply.status_code == 422
    assert "application/json" in reply.json()["detail"]


@pytest.mark.parametrize(
    "content", [b'{"query": "q", "responses": ["a"]}', b'"text"', b"", b"\xff\xfe"], ids=str
)
async def test_body_must_be_an_array(serve, content):
    """The error names JSON Lines, the other accepted format."""
    async with serve() as client:
        reply = await client.post(PATH, content=content, headers={"Content-Type": "application/json"})
    assert reply.status_code == 422
    assert LINES in reply.json()["detail"]


async def test_internal_error_fails_one_item(serve, monkeypatch):
    async with serve() as client:
        judge = client.service.judge

        async def buggy(task, **options):
            if "1?" in task.messages[0].content:
                raise KeyError("surprise")
            return await judge(task, **options)

        monkeypatch.setattr(client.service, "judge", buggy)
        results = (await post(client, [item(i) for i in range(3)])).json()
    assert [r["status"] for r in results] == ["ok", "failed", "ok"]
    assert results[1]["error"]["code"] == "internal"
    assert "surprise" not in str(results)


@pytest.mark.parametrize("content", [b"[{]", b"[", b'[{"query": "q"', b"[1] 2"], ids=str)
async def test_truncated_body_is_not_judged(serve, content):
    async with serve() as client:
        reply = await client.post(PATH, content=content, headers={"Content-Type": "application/json"})
        assert client.service.engine.prompts == []
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
    assert "not JSON" in reply.json()["detail"]


async def test_empty_batch(serve):
    async with serve() as client:
        assert (await post(client, [])).json() == []
        assert (await post(client, [], LINES, lines=True)).text == ""


async def test_too_many_items_are_refused(serve):
    async with serve() as client:
        reply = await post(client, [{}] * 10_001)
    assert reply.status_code == 422
    assert "10001 items" in reply.json()["detail"]


async def test_batch_larger_than_the_queue(serve):
    async with serve(max_samples=2, max_waiting=70) as client:
        results = (await post(client, [item(i) for i in range(200)])).json()
    assert {r["status"] for r in results} == {"ok"}


async def test_repeated_batch_gets_same_verdicts(serve):
    async with serve() as client:
        first, second = [(await post(client, [item(0), item(1)])).json() for _ in range(2)]
    assert [r["verdict"]["id"] for r in first] == [r["verdict"]["id"] for r in second]


async def test_details_can_be_omitted(serve):
    async with serve() as client:
        (result,) = (await post(client, [item(0, detail="rewards")])).json()
    assert "samples" not in result["verdict"]


async def test_batch_checks_readiness_first(serve):
    async with serve() as client:
        client.service.drain()
        reply = await post(client, [item(0)])
        await asyncio.sleep(0)
    assert (reply.status_code, reply.json()["code"]) == (503, "draining")
