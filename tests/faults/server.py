"""A server process with an engine that fails on command: `python -m tests.faults.server`.

The query selects the fault: "please hang" never completes, "please garbage" returns unreadable text, "please
markup" returns HTML, "please think" thinks before it answers, "please ponder" is cut off in its thinking,
"please die" kills the engine process. Any other query is answered after `--delay` seconds like the scripted
engine. With `--isolated` the engine runs in its own process, as real ones do; with `--embedded` it is a real
engine. The wall clock jumps a day ahead on SIGUSR1 and a day back on SIGUSR2.
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
DRAFT = f"A draft {MARKUP} \\boxed{{1, 10}}"
_FAULT = re.compile(r"please (hang|garbage|markup|think|ponder|die)")


class FaultyEngine(ScriptedEngine):
    def __init__(self, delay_s):
        super().__init__("content")
        self.delay_s = delay_s

    async def complete(self, prompt, params):
        match = _FAULT.search(prompt.messages[-1].content)
        fault = match and match[1]
        match fault:
            case "hang":
                await asyncio.Event().wait()
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(self.delay_s)
        completion = await super().complete(prompt, params)
        match fault:
            case "garbage":
                return replace(completion, text="\x00\ud800 \\boxed{nan, 99}")
            case "markup":
                return replace(completion, text=completion.text.replace("It is clear.", MARKUP))
            case "think" if "\\boxed{" not in prompt.continuation:
                return replace(completion, text=f"<think>{DRAFT}</think>\n\n{completion.text}")
            case "ponder" if "\\boxed{" not in prompt.continuation:
                return replace(completion, text=f"<think>{DRAFT}", finish_reason="length")
        return completion


class JumpingDatetime(datetime):
    """Replaces `datetime` in every module of the service that reads the time."""

    offset = timedelta()

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + cls.offset


def install_jumping_clock():
    wall_time = time.time
    time.time = lambda: wall_time() + JumpingDatetime.offset.total_seconds()
    for module in list(sys.modules.values()):
        if module.__name__.startswith("grm_service") and "datetime.now(" in inspect.getsource(module):
            module.datetime = JumpingDatetime

    def jump(days):
        JumpingDatetime.offset += timedelta(days=days)

    signal.signal(signal.SIGUSR1, lambda *_: jump(1))
    signal.signal(signal.SIGUSR2, lambda *_: jump(-1))


def faulty_service(args, settings):
    catalog = open_catalog(settings)
    build = partial(FaultyEngine, args.delay)
    # `main` runs in an imported module, so that the child process can unpickle the class.
    engine = IsolatedEngine("faulty", "faulty", build) if args.isolated else build()
    limits = Limits(args.text_chars, waiting=args.waiting, replay_s=args.replay_s)
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
    args = parser.parse_args()
    logging.basicConfig(level=logging.DEBUG)
    settings = Settings(port=0, drain_s=5, engine="openvino", precision="f32")
    service = open_service(settings) if args.embedded else faulty_service(args, settings)
    install_jumping_clock()
    serve(settings, service, lambda address: print(address, flush=True))


if __name__ == "__main__":
    from tests.faults import server

    sys.exit(server.main())
