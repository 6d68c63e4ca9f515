"""What a batch may cost: its levels, items, bytes and temporary files."""

import asyncio
import json
import tempfile

import pytest

from grm_service.api.spool import MAX_ITEMS, Spools, _Array

pytestmark = pytest.mark.anyio
PATH, LINES = "/v1/rewards/batch", "application/x-ndjson"
ITEM = {"query": "q", "responses": ["a", "b"], "k": 1, "detail": "rewards"}


async def post(client, content, lines=False):
    return await client.post(
        PATH, content=content, headers={"Content-Type": LINES if lines else "application/json"}
    )


@pytest.mark.parametrize("deep", [b"[" * 20_000, b'{"a":' * 20_000, b'{"query":' + b"[" * 250], ids=len)
async def test_deep_array_is_refused(serve, deep):
    async with serve() as client:
        reply = await post(client, b"[1," + deep)
    assert (reply.status_code, reply.json()["code"]) == (400, "unreadable_body")
    assert "item 1 is nested deeper than 200 levels" in reply.json()["detail"]


async def test_deep_array_builds_no_values():
    check = _Array(2**23)
    with pytest.raises(Exception, match="nested deeper"):
        check.add(b"[" * 2**20)
    assert check._depth < 300


async def test_items_are_counted_while_reading():
    read = 0

    async def endless():
        nonlocal read
        while True:
            yield b"[" + b"1," * 2**19 if read == 0 else b"1," * 2**19
            read += 1

    with pytest.raises(Exception, match=f"{MAX_ITEMS + 1} items"):
        await Spools(2**28, 2**23).receive(endless(), lines=False)
    assert read == 0


@pytest.mark.parametrize("lines", [False, True], ids=["array", "lines"])
@pytest.mark.parametrize("first", [[], [ITEM]], ids=["first", "second"])
async def test_large_item_is_refused(serve, lines, first):
    items = [*map(json.dumps, [*first, ITEM | {"query": "x" * 200_000}])]
    content = "\n".join(items) if lines else f"[{','.join(items)}]"
    async with serve(max_body_bytes=100_000) as client:
        reply = await post(client, content, lines)
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")
    assert f"item {len(first)}," in reply.json()["detail"]


async def test_batches_share_temporary_storage(serve):
    async with serve(max_batch_bytes=1024) as client:
        spools = client.app_state.spools
        spools._left = 100
        content = json.dumps([ITEM, ITEM])
        full = await post(client, content)
        spools._left = 4096
        assert (await post(client, content)).status_code == 200
        assert spools._left == 4096
    assert (full.status_code, full.json()["code"]) == (503, "temporary_storage_full")
    assert full.headers["retry-after"]


@pytest.mark.parametrize("content", [b"[1", b"[" * 300, b"x", b"[]"], ids=str)
async def test_storage_is_freed(serve, content):
    async with serve() as client:
        before = client.app_state.spools._left
        await post(client, content)
        assert client.app_state.spools._left == before


@pytest.mark.parametrize("code", [28, 122, 30], ids=["full", "quota", "read-only"])
async def test_full_folder_is_retryable(serve, monkeypatch, code):
    def fail(self, data):
        raise OSError(code, "No room")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "write", fail)
    async with serve() as client:
        reply = await post(client, json.dumps([ITEM]))
    problem = reply.json()
    assert (reply.status_code, problem["code"], problem["retryable"]) == (503, "temporary_storage_full", True)
    assert "TMPDIR" in problem["detail"]


async def test_large_items_are_judged_in_turn(serve, monkeypatch):
    """Few are in memory at once: the window is limited in bytes."""
    monkeypatch.setattr("grm_service.api.batch._WINDOW_BYTES", 100_000)
    at_once, most = 0, 0
    async with serve() as client:
        judge = client.service.judge

        async def counted(task, **options):
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.001)
            try:
                return await judge(task, **options)
            finally:
                at_once -= 1

        monkeypatch.setattr(client.service, "judge", counted)
        content = "\n".join(json.dumps(ITEM | {"query": f"{i} " + "x" * 60_000}) for i in range(8))
        reply = await post(client, content, lines=True)
    assert [result["status"] for result in reply.json()] == ["ok"] * 8
    assert most <= 2
