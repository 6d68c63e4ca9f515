"""CPU time and memory of a replica whose engine is a remote server; the basis of docs/deployment.md."""

from __future__ import annotations

import asyncio
import sys
import time

from benchmarks import servers, workload
from benchmarks.results import Row, Table
from grm_service.client import AsyncClient

_RESPONSES, _K, _WORDS, _SAMPLE_S = 4, 8, 400, 1.0
_GROUPS, _CONCURRENCY = 480, 64


def tables() -> list[Table]:
    command = [sys.executable, "-m", "benchmarks.fake_server", "{port}", str(_SAMPLE_S), str(_WORDS)]
    with servers.started(command, "/v1/models") as remote:
        settings = {
            "GRM_ENGINE": "openai",
            "GRM_OPENAI_BASE_URL": f"{remote.url}/v1",
            "GRM_MAX_SAMPLES": "512",
        }
        with servers.grm(GRM_PROFILE="deepseek-grm-16b", **settings) as front:
            asyncio.run(_judge(front.url, _CONCURRENCY))
            before, begun = _cpu_s(front), time.perf_counter()
            asyncio.run(_judge(front.url, _GROUPS))
            seconds, cpu_s = time.perf_counter() - begun, _cpu_s(front) - before
            memory = front.rss_gb()
    per_group = cpu_s / _GROUPS
    notes = (
        f"{_GROUPS} groups of {_RESPONSES} responses (300 words each), k = {_K}, {_CONCURRENCY} concurrent, "
        f"`detail: rewards`, with the openai engine and a fake server on this machine that answers after "
        f"{_SAMPLE_S:g} s with {_WORDS} words. CPU time is that of the service's process, its audit trail "
        "(SQLite) included. The service is one process, so it uses one core; it shares the machine with that "
        "server and with the client."
    )
    rows = [
        Row("CPU time of the service a group", f"{1000 * per_group:.1f} ms"),
        Row("CPU time of the service a sample", f"{1000 * per_group / _K:.2f} ms"),
        Row("groups a second that one core could serve", f"{1 / per_group:.0f}"),
        Row("groups a second in this run", f"{_GROUPS / seconds:.0f}", seconds=f"{seconds:.1f}"),
        Row("resident memory of the service afterwards", f"{memory:.2f} GiB"),
    ]
    return [Table("A replica before a server elsewhere", rows, notes)]


def _cpu_s(server: servers.Server) -> float:
    times = server.process.cpu_times()
    return float(times.user + times.system)


async def _judge(url: str, groups: int) -> None:
    limit = asyncio.Semaphore(_CONCURRENCY)

    async def one(client: AsyncClient) -> None:
        async with limit:
            responses = [workload.words(300) for _ in range(_RESPONSES)]
            await client.rewards(workload.words(60), responses, k=_K, detail="rewards")

    async with AsyncClient(url) as client:
        await asyncio.gather(*(one(client) for _ in range(groups)))
