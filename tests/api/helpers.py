"""Engines and readers that several tests of the API share."""

import asyncio
import contextlib
import io
import json
import logging
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

import grm_service
from grm_service.api.telemetry import log_json
from grm_service.engines.scripted import ScriptedEngine

SOURCES = Path(grm_service.__file__).parent


class GatedEngine(ScriptedEngine):
    """An engine that waits for `gate` before it completes; counts its calls and their cancellations."""

    def __init__(self, script="content"):
        super().__init__(script)
        self.gate = asyncio.Event()
        self.calls = self.cancelled = 0

    async def complete(self, prompt, params):
        self.calls += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await super().complete(prompt, params)


async def never(prompt, params):
    """A `complete` for an engine that never returns."""
    await asyncio.Event().wait()


def failing(error):
    """Return a `complete` that raises `error`."""

    async def complete(prompt, params):
        raise error

    return complete


def writing(text):
    """Return a `complete` that writes `text`."""
    return ScriptedEngine(lambda prompt, params: text).complete


async def read_metrics(client):
    """Return the values of /metrics by (name, *label values), the label values sorted."""
    text = (await client.get("/metrics")).text
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def sources():
    """Return the source of the whole package."""
    return "".join(path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py"))


@contextlib.contextmanager
def json_log():
    """Log as JSON, and yield a function that reads the lines logged so far."""
    out = io.StringIO()
    handler, root = logging.StreamHandler(out), logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    log_json()
    yield lambda: [json.loads(line) for line in out.getvalue().splitlines()]
    root.handlers[:] = before
    root.setLevel(level)
