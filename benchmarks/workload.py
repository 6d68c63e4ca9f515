"""The timed workload: new prompts at every call, so that no prefix is cached."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

from grm_service.engines.files.source import ModelSource, openvino_path
from grm_service.engines.openvino.engine import OpenVINOEngine
from grm_service.factory import open_catalog
from grm_service.judging.prompt import render
from grm_service.profiles.profile import Profile
from grm_service.settings import Settings
from grm_service.types import Message, Prompt

NEW_TOKENS = 128
_WORDS = "alpha beta gamma the of river stone light money garden people water because judge open slow"
_seeds: Iterator[int] = count(int(time.time()))


def profile() -> Profile:
    return open_catalog(Settings()).profile(Settings().profile)


def source() -> ModelSource:
    return ModelSource.from_profile(profile(), Settings().cache_dir)


def bare_engine(kv_cache_gb: float | None = None, precision: str = "auto") -> OpenVINOEngine:
    """Return the openvino engine in this process, not started."""
    return OpenVINOEngine("bare", partial(openvino_path, source()), kv_cache_gb, precision)


def words(count: int) -> str:
    """Return new random words."""
    return " ".join(random.Random(next(_seeds)).choices(_WORDS.split(), k=count))


def request(k: int, **more: Any) -> dict[str, Any]:
    """Return the body of a new request for a pair, whose prompt has about 1,000 tokens."""
    query, *responses = map(words, (260, 180, 180))
    body = {"query": query, "responses": responses, "k": k, "max_tokens": NEW_TOKENS, "detail": "rewards"}
    return body | more


def prompt() -> Prompt:
    """Return the prompt of such a request, in its first order of responses."""
    body = request(1)
    return render(profile(), (Message("user", body["query"]),), body["responses"], "self", (), None, ())


def median(runs: list[float]) -> float:
    return statistics.median(runs)


async def timed(run: Callable[[], Awaitable[int]]) -> tuple[float, float]:
    """Return the seconds and the tokens per second of a run, which returns the number of its tokens."""
    begun = time.perf_counter()
    tokens = await run()
    seconds = time.perf_counter() - begun
    return seconds, tokens / seconds
