"""A chat server on 127.0.0.1 that can be killed and restarted at the same address."""

import asyncio
import json


class Loopback:
    """Answers with its name after `delay_s`; the first `dropping` answers are cut off in the middle.

    Records request bodies and heads, and counts clients that disconnect before their answer.
    """

    def __init__(self, name="A", model="m", delay_s=0.0, dropping=0):
        self.name, self.model, self.delay_s, self.dropping = name, model, delay_s, dropping
        self.port, self.status = 0, 200
        self.requests, self.heads = [], []
        self.in_flight = self.max_in_flight = self.disconnects = 0
        self._connections = set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    async def open(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def kill(self):
        self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._connections.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(head.partition("content-length:")[2].split("\r\n")[0] or 0)
        body = json.loads(await reader.readexactly(size)) if size else {}
        self.requests.append(body)
        self.heads.append(head)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        gone = asyncio.create_task(reader.read(1))
        done, _ = await asyncio.wait([gone], timeout=self.delay_s)
        self.in_flight -= 1
        if done:
            self.disconnects += 1
            return False
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        status, answer = self._reply(body)
        text = json.dumps(answer).encode()
        cut, self.dropping = self.dropping > 0, max(0, self.dropping - 1)
        writer.write(f"HTTP/1.1 {status} .\r\ncontent-length: {len(text)}\r\n\r\n".encode())
        writer.write(text[: len(text) // 2] if cut else text)
        await writer.drain()
        return not cut

    def _reply(self, body):
        if not body:
            return 200, {"data": [{"id": self.model}]}
        if body["model"] != self.model:
            return 404, {"error": f"no such model; known: {self.model}"}
        if self.status != 200:
            return self.status, {"error": "try again later"}
        choice = {"message": {"content": self.name}, "finish_reason": "stop"}
        return 200, {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
