"""The service with a scripted engine of fixed speed: `python -m benchmarks.paced PORT SECONDS LANES`."""

from __future__ import annotations

import asyncio
import sys

from grm_service.api.server import serve
from grm_service.engines.scripted import ScriptedEngine
from grm_service.factory import default_profile, limits_of, open_catalog, open_trail
from grm_service.serving.service import Service
from grm_service.settings import Settings
from grm_service.types import Completion, Params, Prompt


class PacedEngine(ScriptedEngine):
    """The scripted engine with `seconds` a completion and at most `lanes` concurrent ones."""

    def __init__(self, seconds: float, lanes: int) -> None:
        super().__init__("content")
        self._seconds, self._lanes = seconds, asyncio.Semaphore(lanes)

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        async with self._lanes:
            await asyncio.sleep(self._seconds)
        return await super().complete(prompt, params)


def main(port: str, seconds: str, lanes: str) -> None:
    settings = Settings(port=int(port))
    catalog = open_catalog(settings)
    profile, trail = default_profile(settings, catalog), open_trail(settings)
    engine = PacedEngine(float(seconds), int(lanes))
    serve(settings, Service(catalog, profile, engine, "a benchmark", trail, limits_of(settings)), print)


if __name__ == "__main__":
    main(*sys.argv[1:])
