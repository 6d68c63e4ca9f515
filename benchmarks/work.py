"""The work that is timed: prompts nobody has seen, so that no cache is warm."""

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
    """The openvino engine in this process, not started."""
    return OpenVINOEngine("bare", partial(openvino_path, source()), kv_cache_gb, precision)


def words(count: int) -> str:
    """So many, drawn anew at every call."""
    return " ".join(random.Random(next(_seeds)).choices(_WORDS.split(), k=count))


def request(k: int, **more: Any) -> dict[str, Any]:
    """A request for a pair whose prompt has about 1,000 tokens, a new one at every call."""
    query, *responses = map(words, (260, 180, 180))
    body = {"query": query, "responses": responses, "k": k, "max_tokens": NEW_TOKENS, "detail": "rewards"}
    return body | more


def prompt() -> Prompt:
    """What the model sees of such a request, in its first order."""
    body = request(1)
    return render(profile(), (Message("user", body["query"]),), body["responses"], "self", (), None, ())


def median(runs: list[float]) -> float:
    return statistics.median(runs)


async def timed(work: Callable[[], Awaitable[int]]) -> tuple[float, float]:
    """Seconds, and tokens a second, of work that returns how many tokens it wrote."""
    begun = time.perf_counter()
    tokens = await work()
    seconds = time.perf_counter() - begun
    return seconds, tokens / seconds
