"""An OpenAI-compatible server without a model: `python -m benchmarks.fake_server PORT SECONDS WORDS`.

It answers every request after SECONDS, however many there are, with a critique of WORDS words.
"""

from __future__ import annotations

import asyncio
import re
import sys

from aiohttp import web

_RESPONSE = re.compile(r"^\[The Begin of Response", re.MULTILINE)


def main(port: str, seconds: str, words: str) -> None:
    analysis = " ".join(["word"] * int(words))

    async def complete(request: web.Request) -> web.Response:
        body = await request.json()
        await asyncio.sleep(float(seconds))
        scores = ", ".join(["7"] * len(_RESPONSE.findall(body["messages"][-1]["content"])))
        text = f"Specific Criteria:\n1. Right.\nAnalysis:\n{analysis}\nScores: \\boxed{{{scores}}}"
        choice = {"message": {"content": text}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice], "usage": {"completion_tokens": int(words)}})

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "fake"}]})

    server = web.Application(client_max_size=2**24)
    server.add_routes([web.post("/v1/chat/completions", complete), web.get("/v1/models", models)])
    web.run_app(server, host="127.0.0.1", port=int(port), print=None)


if __name__ == "__main__":
    main(*sys.argv[1:])
