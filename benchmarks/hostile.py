"""What one legal request can do to the others, and ten to the memory: the largest that the limits admit."""

from __future__ import annotations

import gzip
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks import servers
from benchmarks.results import Row, Table
from grm_service.api.server import serve
from grm_service.engines.scripted import ScriptedEngine
from grm_service.factory import default_profile, limits_of, open_catalog, open_trail
from grm_service.serving.service import Service
from grm_service.settings import Settings

_CORES, _LATE_MS, _MOST_GIB, _TIMEOUT_S = 2, 200, 1.0, 20
_LOOPING = [sys.executable, "-m", "benchmarks.hostile", "{port}"]
_TEXTS = {
    "plain words": "a b c d " * 15_000,
    "parts of control tokens": "<|x " * 30_000,
    "parts of headings": "# [The " * 17_000,
    "emoji": "\N{GRINNING FACE}" * 28_000,
}


@dataclass(frozen=True)
class _Attack:
    """A request, to be sent once or ten times with other numbers; `stored` verdicts are judged before it."""

    name: str
    path: str
    body: dict[str, object] | bytes | None = None
    encoding: str = "identity"
    stored: int = 0
    command: list[str] | None = None

    def send(self, url: str, number: int) -> None:
        headers = {"Content-Type": "application/json", "Content-Encoding": self.encoding}
        content = self.body
        if isinstance(content, dict):
            content = json.dumps(
                content | {"query": f"{number} {content['query']}"}, ensure_ascii=False
            ).encode()
        method = "GET" if content is None else "POST"
        with httpx.stream(method, url + self.path, content=content, headers=headers, timeout=300) as reply:
            for _ in reply.iter_bytes():
                pass


def _rewards(text: str, n: int, k: int, **options: object) -> dict[str, object]:
    responses = [f"{i} {text}" for i in range(n)]
    return {"query": "q", "responses": responses, "k": k, "timeout_s": _TIMEOUT_S, **options}


def _attacks() -> Iterator[_Attack]:
    room = Settings().max_prompt_chars
    for name, text in _TEXTS.items():
        k = max(1, min(64, room // (60 * (len(text) + 10))))
        yield _Attack(f"60 responses of {name}, k = {k}", "/v1/rewards", _rewards(text, 60, k))
    yield _Attack("60 responses of one character, k = 64", "/v1/rewards", _rewards("x", 60, 64))
    yield _Attack("the same with soft scores", "/v1/rewards", _rewards("x", 60, 64, score="soft"))
    turns = [{"role": "user", "content": text} for text in _TEXTS.values() for _ in range(10)]
    long_query = {"query": "q", "n": 8, "rounds": 1, "k": 1, "draft": _TEXTS["plain words"]}
    yield _Attack("an improvement of a long draft", "/v1/improve", long_query)
    yield _Attack("principles for 40 long turns", "/v1/principles", json.dumps({"messages": turns}).encode())
    bomb = gzip.compress(b"[" + b" " * (2**28 - 2) + b"]")
    yield _Attack("a batch of 256 MiB of spaces, as gzip", "/v1/rewards/batch", bomb, "gzip")
    nested = b"[" * 100_000 + b"]" * 100_000
    yield _Attack("a batch of 100,000 nested lists", "/v1/rewards/batch", nested)
    yield _Attack("a search in ten verdicts of 7 MiB", f"/v1/verdicts?search={'a' * 199}b", stored=10)
    yield _Attack("a list of ten verdicts of 7 MiB", "/v1/verdicts?limit=200", stored=10)
    yield _Attack("principles of ten verdicts of 7 MiB", "/v1/principles/observed?verdicts=5000", stored=10)
    looping = _rewards("x", 2, 4, max_tokens=32_768)
    yield _Attack("a judge that repeats one character", "/v1/rewards", looping, command=_LOOPING)


def tables() -> list[Table]:
    rows = [row for attack in _attacks() for row in _rows(attack)]
    notes = (
        f"Each request is sent to a service of its own with the scripted engine on {_CORES} cores, once "
        f"while /livez is polled, and then ten times at once with other texts; verdicts have {_TIMEOUT_S} s "
        f"(timeout_s). Memory is the highest of the process. Instruction set: {_instructions()}; "
        f"load average at the end: {os.getloadavg()[0]:.1f}."
    )
    return [Table("The largest legal requests", rows, notes)]


def _rows(attack: _Attack) -> list[Row]:
    with servers.grm(attack.command or servers.SERVE, GRM_ENGINE="scripted") as server:
        server.process.cpu_affinity(server.process.cpu_affinity()[:_CORES])
        for i in range(attack.stored):
            _Attack("", "/v1/rewards", _rewards("a" * 190_000, 36, 1)).send(server.url, i)
        begun = time.perf_counter()
        with _polled(server.url) as waits_s:
            attack.send(server.url, 0)
        seconds, worst_ms = time.perf_counter() - begun, 1000 * max(waits_s)
        with ThreadPoolExecutor(10) as pool:
            list(pool.map(lambda number: attack.send(server.url, number), range(1, 11)))
        gib = _peak_gib(server.process)
    late, much = worst_ms > _LATE_MS, gib > _MOST_GIB
    figures = f"{worst_ms:.0f} ms", f"{gib:.2f} GiB"
    rows = [
        Row(f"{attack.name}: slowest /livez", figures[0], f"{_LATE_MS} ms", not late, f"{seconds:.1f}"),
        Row(f"{attack.name}: memory after ten", figures[1], f"{_MOST_GIB:g} GiB", not much),
    ]
    print(*(row.line() for row in rows), sep="\n", file=sys.stderr, flush=True)
    return rows


@contextmanager
def _polled(url: str) -> Iterator[list[float]]:
    """Poll /livez until the block ends; yield the seconds of each reply."""
    waits_s, ended = list[float](), threading.Event()

    def poll() -> None:
        while not ended.wait(0.02):
            begun = time.perf_counter()
            httpx.get(url + "/livez", timeout=300)
            waits_s.append(time.perf_counter() - begun)

    thread = threading.Thread(target=poll)
    thread.start()
    time.sleep(0.2)
    try:
        yield waits_s
    finally:
        ended.set()
        thread.join()


def _peak_gib(process: psutil.Process) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**20


def _instructions() -> str:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split()
    return next((name for name in ("amx_tile", "avx512f", "avx2", "avx") if name in flags), "without AVX")


class _LoopingEngine(ScriptedEngine):
    """Repeats one character for as long as it may, in a string without spaces."""

    def __init__(self) -> None:
        super().__init__(lambda prompt, params: "#" * 4 * params.max_tokens)


def main(port: str) -> None:
    settings = Settings(port=int(port))
    catalog = open_catalog(settings)
    profile, trail = default_profile(settings, catalog), open_trail(settings)
    serve(
        settings,
        Service(catalog, profile, _LoopingEngine(), "a benchmark", trail, limits_of(settings)),
        print,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
