"""Bursts of requests, as from RL steps: answered or rejected, never wrong, with little overhead."""

import asyncio
import json
import statistics
import time

import psutil
import pytest

from tests.faults.test_faults import body, expected, request_head, served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]
ENGINE_S = 0.05


@pytest.mark.parametrize(
    ("requests", "connections", "rounds"),
    [(200, 64, 1), pytest.param(2000, 256, 4, marks=pytest.mark.slow)],
    ids=["short", "long"],
)
async def test_burst_is_never_wrong(requests, connections, rounds):
    growth = []
    with served("--delay", str(ENGINE_S)) as (url, process):
        server = psutil.Process(process.pid)
        await judge_in_turn(url, ["warm"])
        for turn in range(rounds):
            before = server.memory_info().rss
            await burst(url, [f"Question {turn}.{i}?" for i in range(requests)], connections)
            growth.append((server.memory_info().rss - before) / 2**20)
    print("memory, MiB: " + ", ".join(f"{each:+.0f}" for each in growth))
    assert growth[0] < 200
    # The latest 4,096 verdicts are cached for replay; from then on memory must not grow.
    assert sum(growth[2:]) < 30


async def burst(url, queries, connections):
    right = dict(zip(queries, await expected(queries), strict=True))
    began = time.perf_counter()
    turns = [queries[i::connections] for i in range(connections)]
    results = await asyncio.gather(*(judge_in_turn(url, turn) for turn in turns))
    seconds = time.perf_counter() - began
    answers = [answer for result in results for answer in result]
    assert [query for query, *_ in answers] == [query for turn in turns for query in turn]
    kinds = {kind: sum(status == kind for _, status, *_ in answers) for kind in (200, 429)}
    assert sum(kinds.values()) == len(queries)
    for query, status, answer, _ in answers:
        if status == 200:
            assert tuple(answer["rewards"]) == right[query]
        else:
            assert answer["code"] == "overloaded"
    judged = [answer["timing"]["judge_s"] for _, status, answer, _ in answers if status == 200]
    print(
        f"\n{len(queries)} requests, {connections} connections: {kinds} in {seconds:.1f} s; "
        f"judging, without the engine's 50 ms: {overhead(judged)}; end to end, with queueing: "
        f"{overhead([elapsed for *_, elapsed in answers])}"
    )


def overhead(seconds):
    """Format the percentiles of the time beyond the engine's."""
    percentiles = statistics.quantiles(seconds, n=100)
    return (
        f"p50 {(percentiles[49] - ENGINE_S) * 1000:.0f} ms, p99 {(percentiles[98] - ENGINE_S) * 1000:.0f} ms"
    )


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 32])
async def test_overhead_is_printed(at_once):
    with served("--delay", str(ENGINE_S)) as (url, _):
        await judge_in_turn(url, ["warm"])
        clients = (judge_in_turn(url, [f"q {number}.{i}" for i in range(30)]) for number in range(at_once))
        elapsed = [seconds for answers in await asyncio.gather(*clients) for *_, seconds in answers]
    print(f"\n{at_once} at a time, end to end without the engine's 50 ms: {overhead(elapsed)}")
    assert len(elapsed) == 30 * at_once


async def judge_in_turn(url, queries):
    """Return (query, status, answer, seconds) of each, from a minimal client on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    answers = []
    for query in queries:
        content = json.dumps(body(query)).encode()
        began = time.perf_counter()
        writer.write(request_head(content) + content)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        answer = await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
        answers.append((query, int(head.split()[1]), json.loads(answer), time.perf_counter() - began))
    writer.close()
    await writer.wait_closed()
    return answers
