"""Principles from the query alone, written once per query and reused (mode "query")."""

from __future__ import annotations

import math
from dataclasses import replace

from grm_service import tracing
from grm_service.cache import ByteCache, memory_size
from grm_service.concurrency import SharedTask, off_the_loop
from grm_service.engines.base import Engine
from grm_service.errors import PrinciplesUnreadable
from grm_service.judging.completion import complete, to_get_an_answer
from grm_service.judging.orders import sample_seed
from grm_service.judging.parse import parse_principles
from grm_service.judging.prompt import render_query
from grm_service.judging.sampler import SampleObserver
from grm_service.lengths import messages_chars
from grm_service.profiles.profile import Profile
from grm_service.types import Completion, Message, Params, Principle, Usage

Written = tuple[tuple[Principle, ...], Usage]
"""The principles, and the tokens of all attempts."""
_Key = tuple[Profile, tuple[Message, ...], tuple[Principle, ...], int | None]
MAX_ATTEMPTS = 3
_CACHE_BYTES = 16 * 2**20


class PrincipleWriter:
    """Writes principles with one engine and caches them by profile, query and constitution."""

    def __init__(self, engine: Engine, observer: SampleObserver | None = None) -> None:
        self._engine, self._observer = engine, observer
        self._writing: dict[object, SharedTask[Written]] = {}
        self._written: ByteCache[Written] = ByteCache(_CACHE_BYTES, math.inf)

    async def write(
        self,
        profile: Profile,
        messages: tuple[Message, ...],
        constitution: tuple[Principle, ...] = (),
        thinking_tokens: int | None = None,
    ) -> Written:
        """Return the principles for a query, cached or new; `thinking_tokens` None is the profile's default.

        Raises PrinciplesUnreadable, EngineError.
        """
        if thinking_tokens is None:
            thinking_tokens = profile.thinking.tokens
        key = (profile, messages, constitution, thinking_tokens)
        if (written := self._written.get(key)) is not None:
            return written
        writing = self._writing.get(key)
        if writing is None or writing.abandoned:
            writing = self._writing[key] = SharedTask(self._write(*key))
            writing.task.add_done_callback(lambda _: self._end(key, writing))
        return await writing.wait()

    def _end(self, key: _Key, writing: SharedTask[Written]) -> None:
        """Move principles that have been written into the cache; the next request repeats a failure."""
        if self._writing.get(key) is writing:
            del self._writing[key]
            if not writing.failed:
                written = writing.task.result()
                self._written.put(key, written, memory_size((key[1:], written)))

    async def _write(
        self,
        profile: Profile,
        messages: tuple[Message, ...],
        constitution: tuple[Principle, ...],
        thinking_tokens: int | None,
    ) -> Written:
        """Return the first principles that can be read; the first attempt is greedy, the others sample.

        An attempt that was cut in its thinking is repeated without thinking, or with room for it.
        """
        engine, sampling, usage = self._engine, profile.sampling, Usage()
        was_cut = False
        # A model that thinks should do so first, which a continuation would prevent.
        thinks = engine.thinking.thinks is not None and thinking_tokens != 0
        start = "1." if engine.abilities.continues and not thinks else ""
        prompt = await off_the_loop(
            messages_chars(messages), render_query, profile, messages, constitution, engine.control_tokens
        )
        for attempt in range(MAX_ATTEMPTS):
            temperature = sampling.temperature if attempt else 0.0
            params = Params(
                sampling.max_tokens,
                temperature,
                sampling.top_p,
                sample_seed(0, attempt),
                thinking_tokens=thinking_tokens,
                request_fields=profile.thinking.request_fields(thinking_tokens),
            )
            if was_cut:
                params = to_get_an_answer(engine, params, profile.thinking)
            attributes = tracing.request_attributes(engine.name, engine.model, params)
            with tracing.span("principles", attributes, "CLIENT") as span:
                completion = await complete(
                    engine, replace(prompt, continuation=start), params, profile.thinking
                )
                span.note(tracing.usage_attributes(completion.usage))
            usage += completion.usage
            if self._observer is not None:
                self._observer.spent(completion.usage)
            text = _whole_lines(start + completion.text, completion)
            if principles := await off_the_loop(len(text), parse_principles, text):
                return principles, usage
            was_cut = completion.is_cut_in_thinking
        hint = ": its thinking was cut off, so raise thinking_tokens" if was_cut else ""
        raise PrinciplesUnreadable(
            f"no principle could be read in {MAX_ATTEMPTS} attempts for this query{hint}"
        )


def _whole_lines(text: str, completion: Completion) -> str:
    """Return the text without its last line if the completion was cut inside it."""
    return text.rpartition("\n")[0] or text if completion.finish_reason == "length" else text
