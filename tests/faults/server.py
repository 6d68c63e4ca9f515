"""A service in a process of its own whose engine does what the query says: `python -m tests.faults.server`.

"hang" never answers, "garbage" writes what nobody can read, "markup" writes HTML, "die" kills the engine's
process, anything else is answered after `--delay` seconds as the scripted engine does. With `--isolated` the
engine has a process of its own, as real ones do; with `--embedded` it is a real one. The wall clock jumps a
day ahead at SIGUSR1 and a day back at SIGUSR2.
"""

import argparse
import asyncio
import inspect
import logging
import os
import re
import signal
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from grm_service.api.server import serve
from grm_service.engines.isolated import IsolatedEngine
from grm_service.engines.scripted import ScriptedEngine
from grm_service.factory import default_profile, open_catalog, open_service, open_trail
from grm_service.serving.service import Limits, Service
from grm_service.settings import Settings

MARKUP = "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'>"
_WISH = re.compile(r"please (hang|garbage|markup|die)")


class Faulty(ScriptedEngine):
    def __init__(self, delay_s):
        super().__init__("content")
        self.delay_s = delay_s

    async def complete(self, prompt, params):
        found = _WISH.search(prompt.messages[-1].content)
        match found and found[1]:
            case "hang":
                await asyncio.Event().wait()
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(self.delay_s)
        completion = await super().complete(prompt, params)
        self.prompts.clear()  # which would look like a leak of the service's
        match found and found[1]:
            case "garbage":
                return replace(completion, text="\x00\ud800 \\boxed{nan, 99}")
            case "markup":
                return replace(completion, text=completion.text.replace("It is clear.", MARKUP))
        return completion


class Jumping(datetime):
    """Stands in for `datetime` wherever the service asks for the time."""

    ahead = timedelta()

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + cls.ahead


def let_the_clock_jump():
    wall = time.time
    time.time = lambda: wall() + Jumping.ahead.total_seconds()
    for module in list(sys.modules.values()):
        if module.__name__.startswith("grm_service") and "datetime.now(" in inspect.getsource(module):
            module.datetime = Jumping

    def jump(days):
        Jumping.ahead += timedelta(days=days)

    signal.signal(signal.SIGUSR1, lambda *_: jump(1))
    signal.signal(signal.SIGUSR2, lambda *_: jump(-1))


def faulty(asked, settings):
    catalog = open_catalog(settings)
    build = partial(Faulty, asked.delay)
    # Imported by its own name, so that the child process can find the class.
    engine = IsolatedEngine("faulty", "faulty", build) if asked.isolated else build()
    limits = Limits(asked.text_chars, waiting=asked.waiting, replay_s=asked.replay_s)
    return Service(
        catalog, default_profile(settings, catalog), engine, "a test", open_trail(settings), limits
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--isolated", action="store_true")
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("--waiting", type=int, default=2048)
    parser.add_argument("--replay-s", type=float, default=300)
    parser.add_argument("--text-chars", type=int, default=200_000)
    asked = parser.parse_args()
    logging.basicConfig(level=logging.DEBUG)
    settings = Settings(port=0, drain_s=5, engine="openvino", precision="f32")
    service = open_service(settings) if asked.embedded else faulty(asked, settings)
    let_the_clock_jump()
    serve(settings, service, lambda address: print(address, flush=True))


if __name__ == "__main__":
    from tests.faults import server

    sys.exit(server.main())
