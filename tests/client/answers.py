"""A server on 127.0.0.1 that answers from a list, repeats the last answer, and records the requests."""

import asyncio
import json
import time

from tests.waiting import until

VERDICT = {
    "id": "vd_1",
    "status": "ok",
    "profile": "p",
    "fingerprint": "sha256:0",
    "model": "m",
    "created": "2026-11-24T00:52:07.596422Z",
    "constitution": None,
    "rewards": [7.0, 3.0],
    "best": 0,
    "ties": [],
    "ranking": [1, 2],
    "agreement": 1.0,
    "std": [0.0, 0.0],
    "response_ids": None,
    "k": 2,
    "valid": 2,
    "counted": 2,
    "stopped": None,
    "principles": [],
    "usage": {"prompt_tokens": 1, "cached_tokens": 0, "completion_tokens": 1},
    "timing": {"queue_s": 0.0, "judge_s": 0.1},
    "something_newer": {"a": 1},
}


def problem(status, code, retryable=True, **headers):
    """Return an answer: a problem with headers (underscores in place of dashes)."""
    return status, {"code": code, "detail": "because", "retryable": retryable}, headers


def verdict(**changed):
    return 200, VERDICT | changed, {}


HANG = None, None, {}
CUT = -1, None, {}


class Answers:
    """The server. HANG never answers, CUT closes the connection; `by_query` may compute the answer instead.

    It waits with its first answer until `together` requests are in flight.
    """

    def __init__(self, *answers, by_query=None, together=1):
        self.answers, self.by_query, self.together = list(answers), by_query, together
        self.bodies, self.heads, self.times = [], [], []
        self.connections = self.in_flight = self.max_in_flight = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._tasks = set()
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        self.connections += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self._tasks.discard(asyncio.current_task())
            writer.transport.abort()

    async def _answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        body = await reader.readexactly(int(head.partition("content-length:")[2].split("\r\n")[0]))
        self.heads.append(head)
        self.bodies.append(body)
        self.times.append(time.monotonic())
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            return await self._write(writer, json.loads(body))
        finally:
            self.in_flight -= 1

    async def _write(self, writer, request):
        if self.by_query is not None:
            status, content, headers = self.by_query(request["query"])
        else:
            status, content, headers = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if status is None:
            await asyncio.Event().wait()
        if status == -1:
            return False
        await until(lambda: self.max_in_flight >= self.together)
        text = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        lines = [f"HTTP/1.1 {status} .", f"content-length: {len(text)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + text)
        await writer.drain()
        return True
