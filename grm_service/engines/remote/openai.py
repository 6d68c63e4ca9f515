"""The engine of one OpenAI-compatible server, by chat completions. vLLM is the reference.

The server's features are detected at startup (capability_checks.py); the fields that it refuses are learnt
(field_rules.py). Completions are parsed in completions.py, HTTP retries are in http_retry.py.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import httpx

from grm_service.concurrency import SharedTask
from grm_service.engines.base import ThinkingBehavior, default_room
from grm_service.engines.remote.capability_checks import compare_seeds, detect_capabilities, is_answered
from grm_service.engines.remote.completions import ALL_IN_REASONING, parse_completion
from grm_service.engines.remote.field_rules import FieldRules
from grm_service.engines.remote.http_retry import RetryingClient
from grm_service.engines.remote.server_capabilities import VLLM, ServerCapabilities, is_continued
from grm_service.errors import (
    BadTask,
    EngineError,
    EngineUnreachable,
    GRMError,
    ModelNotLoaded,
    PromptRefused,
    PromptTooLong,
    UpstreamDenied,
    UpstreamRefused,
)
from grm_service.types import Completion, Params, Prompt

logger = logging.getLogger(__name__)
_FIELD_REFUSALS = (400, 422)
_LIMIT = re.compile(r"max_(?:completion_|new_|output_)?tokens", re.IGNORECASE)
_LEAST_ROOM = 512  # half of it is the smallest room that is tried
_ADVICE = (
    " (is it a chat completions API, and the model one that chats? Check GRM_OPENAI_BASE_URL and "
    "GRM_OPENAI_MODEL, or GRM_POLICY_URL and GRM_POLICY_MODEL)"
)


class CannotContinue(EngineError):
    """The server cannot continue the answer in a prompt, or not with the thinking before it."""

    retryable = False


class OpenAIEngine:
    """One server. `base_url` ends in /v1; `model` None means the first model that the server lists.

    `timeout_s` limits one completion, retries included; `connections` is the most concurrent requests.
    """

    name = "openai"
    abilities = VLLM.abilities
    thinking = ThinkingBehavior()
    ready = True
    control_tokens: tuple[str, ...] = ()

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 300.0,
        connections: int = 1024,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.model = model or ""
        self._client = RetryingClient(base_url, api_key, timeout_s, connections, transport)
        self._capabilities = VLLM
        self._rules = FieldRules()
        self._question: SharedTask[bool] | None = None

    @property
    def dropped_fields(self) -> tuple[str, ...]:
        """The sampling fields that the server refuses and requests leave out."""
        return tuple(sorted(self._rules.dropped))

    async def start(self) -> None:
        """Generate a completion and detect the capabilities.

        Raises ModelNotLoaded, EngineUnreachable, and EngineError for an odd reply, which may not be repeated.
        """
        self._rules = FieldRules()
        if not self.model:
            self.model = await self._first_model()
        try:
            self._capabilities = await detect_capabilities(self._complete)
        except (EngineUnreachable, ModelNotLoaded):
            raise
        except (BadTask, EngineError) as error:
            kind = EngineError if error.retryable else ModelNotLoaded
            advice = _ADVICE if type(error) in (EngineError, UpstreamRefused) else ""
            raise kind(f"{self._client.url} does not serve {self.model}: {error}{advice}") from error
        self.abilities, self.thinking = self._capabilities.abilities, self._capabilities.thinking
        missing = ", ".join(self.abilities.lacking()) or "nothing"
        logger.info("%s serves %s; missing features: %s", self._client.url, self.model, missing)
        await self._check_seeds()

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """Generate one completion; cancelling closes its connection.

        Raises UpstreamDenied if the server refuses any request, other EngineErrors, PromptTooLong.
        """
        try:
            completion = await self._complete_in_room(prompt, params)
        except UpstreamDenied as error:
            if not await self._answers():
                raise
            what = f"{self._client.url} refuses this request, and not others ({error.status or 'no status'})"
            raise UpstreamRefused(what, error.reason, error.status, error.param) from None
        if completion.finish_reason == "stop" and completion.is_cut_in_thinking:
            logger.warning("%s: %s", self._client.url, ALL_IN_REASONING)
        return completion

    async def _complete_in_room(self, prompt: Prompt, params: Params) -> Completion:
        """Return a completion; the default room for thinking shrinks to what the server allows."""
        has_default_room = params.thinking_tokens is None
        while True:  # ends, because each try has less room
            try:
                return await self._complete(self._capabilities, prompt, params)
            except UpstreamDenied:
                raise
            except (PromptTooLong, UpstreamRefused) as error:
                room = self._capabilities.thinking_room(prompt, params)
                left = _room_left(error, params.max_tokens, room)
                if not has_default_room or not 0 < left < room:
                    raise _named_by_profile(error, params, self._client.url) from None
            # The default room is too large for this server; no request set it.
            params = replace(params, thinking_tokens=left)

    async def _answers(self) -> bool:
        """Return whether the server answers a question of ours; concurrent calls ask it once."""
        if self._question is None or self._question.abandoned or self._question.task.done():
            self._question = SharedTask(is_answered(partial(self._complete, self._capabilities)))
        return await self._question.wait()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _complete(self, capabilities: ServerCapabilities, prompt: Prompt, params: Params) -> Completion:
        if is_continued(prompt) and capabilities.continuation is None:
            raise CannotContinue(f"{self._client.url} cannot continue a partial assistant message")
        if prompt.thinking is not None and capabilities.thinking_in is None:
            raise CannotContinue(f"{self._client.url} cannot continue an answer after thinking")
        body = {"model": self.model, **capabilities.request_body(prompt, params)}
        completion = parse_completion(await self._post(body, prompt.chars), params.alternatives)
        if capabilities.echoes_continuation and is_continued(prompt):
            return _without_continuation(body["messages"][-1]["content"], prompt.continuation, completion)
        return completion

    async def _post(self, body: Mapping[str, Any], chars: int) -> dict[str, Any]:
        """Return the reply to a body of `chars` characters without the fields that the server refuses.

        Remember these.
        """
        rules = self._rules
        while True:  # ends, because each try has one field less or one rule more
            sent = rules.apply(body)
            try:
                reply = await self._client.post("/chat/completions", sent, chars)
            except UpstreamRefused as error:
                changed = rules.after(_words(error), sent)
                if changed is None or error.status not in _FIELD_REFUSALS:
                    raise
                rules = changed
            else:
                break
        if rules != self._rules:
            self._rules = rules
            logger.warning("%s refuses fields of a request: %s", self._client.url, "; ".join(rules.notes()))
        return reply

    async def _first_model(self) -> str:
        try:
            models = await self._client.get("/models")
            return str(models["data"][0]["id"])
        except (EngineUnreachable, UpstreamRefused):
            raise
        except (EngineError, KeyError, IndexError, TypeError):
            raise ModelNotLoaded(
                f"{self._client.url}/models lists no model: set GRM_OPENAI_MODEL, or GRM_POLICY_MODEL"
            ) from None

    async def _check_seeds(self) -> None:
        """Log a warning if the server ignores seeds, or always returns the same text."""
        if "seed" in self._rules.dropped:
            return  # the log has it already
        try:
            compared = await compare_seeds(self.complete, self.thinking.thinks is not None)
        except EngineUnreachable:
            raise
        except (EngineError, BadTask) as error:
            logger.info("%s: seeds could not be checked: %s", self._client.url, error.message)
            return
        if compared is None:
            return
        differ, repeat = compared
        if not differ:
            # `transformers serve` does this if the model's generation_config does not set do_sample.
            logger.warning(
                "%s returns the same text for every seed: all k samples will be identical", self._client.url
            )
        elif not repeat:
            # SGLang uses seeds only when started with --enable-deterministic-inference.
            logger.warning(
                "%s does not return the same text for the same seed: verdicts cannot be reproduced",
                self._client.url,
            )


def _words(error: UpstreamRefused) -> str:
    """Return the field and the words of a refusal."""
    return f"{error.param or ''} {error.reason}"


def _room_left(error: GRMError, max_tokens: int, room: int) -> int:
    """Return the tokens that a server which refused `room` has left for thinking, 0 if none or unknown."""
    if isinstance(error, PromptRefused):  # in words without numbers
        return room // 2 if room >= _LEAST_ROOM else 0
    if isinstance(error, PromptTooLong):
        return default_room(error.limit - error.tokens - max_tokens)
    if isinstance(error, UpstreamRefused) and _LIMIT.search(_words(error)):
        numbers = (int(number) for number in re.findall(r"\d{1,9}", error.reason.replace(",", "")))
        return max((n for n in numbers if n < max_tokens + room), default=0) - max_tokens
    return 0


def _named_by_profile(error: GRMError, params: Params, url: str) -> GRMError:
    """Return a refusal, as one of the profile's own request fields if it names them."""
    if not isinstance(error, UpstreamRefused):
        return error
    words = _words(error)
    if not (refused := [name for name in params.request_fields if name in words]):
        return error
    what = f"{url} refuses {', '.join(refused)}, which the profile sets in `thinking`"
    return UpstreamRefused(what, error.reason, error.status, error.param)


def _without_continuation(sent: str, continuation: str, completion: Completion) -> Completion:
    """Return only what was added to the sent content, which a reasoning parser may have taken apart."""
    for start in (sent, continuation):
        if completion.text.startswith(start):
            return replace(completion, text=completion.text.removeprefix(start))
    raise EngineError("the server's reply does not start with the continuation, as it did at startup")
