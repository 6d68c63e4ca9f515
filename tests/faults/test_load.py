"""RL steps arrive in bursts: all are answered or refused, none is wrong, little time is the service's own."""

import asyncio
import json
import statistics
import time

import psutil
import pytest

from tests.faults.test_faults import body, expected, head, served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]
ENGINE_S = 0.05


@pytest.mark.parametrize(
    ("requests", "connections", "rounds"),
    [(200, 64, 1), pytest.param(2000, 256, 4, marks=pytest.mark.slow)],
    ids=["short", "long"],
)
async def test_a_burst_is_answered_or_refused_and_never_wrong(requests, connections, rounds):
    grown = []
    with served("--delay", str(ENGINE_S)) as (url, process):
        seen = psutil.Process(process.pid)
        await ask_in_turn(url, ["warm"])
        for turn in range(rounds):
            before = seen.memory_info().rss
            await burst(url, [f"Question {turn}.{i}?" for i in range(requests)], connections)
            grown.append((seen.memory_info().rss - before) / 2**20)
    print("memory, MiB: " + ", ".join(f"{each:+.0f}" for each in grown))
    assert grown[0] < 200
    # The latest 4,096 verdicts are kept, to be given again; from then on nothing is added.
    assert sum(grown[2:]) < 30


async def burst(url, queries, connections):
    right = dict(zip(queries, await expected(queries), strict=True))
    began = time.perf_counter()
    turns = [queries[i::connections] for i in range(connections)]
    told = await asyncio.gather(*(ask_in_turn(url, turn) for turn in turns))
    seconds = time.perf_counter() - began
    answers = [answer for answered in told for answer in answered]
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
        f"judging beside the engine's 50 ms: {own(judged)}; end to end, waiting: "
        f"{own([took for *_, took in answers])}"
    )


def own(seconds):
    """What is not the engine's."""
    cuts = statistics.quantiles(seconds, n=100)
    return f"p50 {(cuts[49] - ENGINE_S) * 1000:.0f} ms, p99 {(cuts[98] - ENGINE_S) * 1000:.0f} ms"


@pytest.mark.parametrize("at_once", [1, 32])
async def test_the_service_adds_little_to_the_engines_time_end_to_end(at_once):
    with served("--delay", str(ENGINE_S)) as (url, _):
        await ask_in_turn(url, ["warm"])
        asking = (ask_in_turn(url, [f"q {number}.{i}" for i in range(30)]) for number in range(at_once))
        took = [seconds for answered in await asyncio.gather(*asking) for *_, seconds in answered]
    print(f"\n{at_once} at a time, end to end beside the engine's 50 ms: {own(took)}")
    assert statistics.median(took) - ENGINE_S < 0.5


async def ask_in_turn(url, queries):
    """(query, status, answer, seconds) of each, on one connection, by a client that costs next to nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    answered = []
    for query in queries:
        content = json.dumps(body(query)).encode()
        began = time.perf_counter()
        writer.write(head(content) + content)
        top = (await reader.readuntil(b"\r\n\r\n")).lower()
        answer = await reader.readexactly(int(top.partition(b"content-length:")[2].split()[0]))
        answered.append((query, int(top.split()[1]), json.loads(answer), time.perf_counter() - began))
    writer.close()
    await writer.wait_closed()
    return answered
