"""A service in a process of its own whose engine does what the query says: `python -m tests.faults.server`.

"hang" never answers, "garbage" writes what nobody can read, "die" kills the engine's process, anything else
is answered after `--delay` seconds as the scripted engine does. The engine runs isolated, as real ones do.
"""

import argparse
import asyncio
import logging
import os
import re
import signal
import sys
from functools import partial

from grm_service.api.server import serve
from grm_service.assembly import default_profile, open_catalog
from grm_service.engines.isolated import IsolatedEngine
from grm_service.engines.scripted import ScriptedEngine
from grm_service.service import Limits, Service
from grm_service.settings import Settings

_WISH = re.compile(r"please (hang|garbage|die)")


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
        if found:
            completion = type(completion)("\x00\ud800 \\boxed{nan, 99}", "stop", completion.usage)
        return completion


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--isolated", action="store_true")
    parser.add_argument("--waiting", type=int, default=2048)
    parser.add_argument("--text-chars", type=int, default=200_000)
    asked = parser.parse_args()
    logging.basicConfig(level=logging.DEBUG)
    settings = Settings(port=0, drain_s=5)
    catalog = open_catalog(settings)
    build = partial(Faulty, asked.delay)
    # Imported by its own name, so that the child process can find the class.
    engine = IsolatedEngine("faulty", "faulty", build) if asked.isolated else build()
    service = Service(
        catalog,
        default_profile(settings, catalog),
        engine,
        "a test",
        Limits(asked.text_chars, waiting=asked.waiting),
    )
    serve(settings, service, lambda address: print(address, flush=True))


if __name__ == "__main__":
    from tests.faults import server

    sys.exit(server.main())
