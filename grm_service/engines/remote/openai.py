"""The engine of one OpenAI-compatible server, by chat completions. vLLM is the reference.

The server's non-standard features are detected once, at startup (server_capabilities.py). HTTP retries are in
http_retry.py.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import httpx

from grm_service.engines.base import ThinkingBehavior
from grm_service.engines.remote.http_retry import RetryingClient
from grm_service.engines.remote.server_capabilities import (
    STANDARD,
    VLLM,
    ServerCapabilities,
    detect_capabilities,
)
from grm_service.errors import EngineError, ModelNotLoaded, UpstreamRefused
from grm_service.types import Alternative, Completion, Message, Params, Prompt, Usage

logger = logging.getLogger(__name__)


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

    async def start(self) -> None:
        """Generate one token and detect the capabilities. Raises ModelNotLoaded, EngineUnreachable."""
        if not self.model:
            self.model = await self._first_model()
        try:
            await self._complete(STANDARD, Prompt((Message("user", "Say: yes"),)), Params(max_tokens=1))
        except UpstreamRefused as error:
            raise ModelNotLoaded(f"{self._client.url} does not serve {self.model}: {error}") from error
        self._capabilities = await detect_capabilities(self._complete)
        self.abilities = self._capabilities.abilities
        missing = ", ".join(self.abilities.lacking()) or "nothing"
        logger.info("%s serves %s; missing features: %s", self._client.url, self.model, missing)
        await self._check_seeds()

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """Generate one completion; cancelling closes its connection. Raises EngineError, PromptTooLong."""
        return await self._complete(self._capabilities, prompt, params)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _complete(self, capabilities: ServerCapabilities, prompt: Prompt, params: Params) -> Completion:
        if prompt.continuation and capabilities.continuation is None:
            raise EngineError(f"{self._client.url} cannot continue a partial assistant message")
        body = {"model": self.model, **_request_body(capabilities, prompt, params)}
        completion = _parse_completion(await self._client.post("/chat/completions", body))
        if capabilities.echoes_continuation:
            return _without_continuation(prompt.continuation, completion)
        return completion

    async def _first_model(self) -> str:
        models = await self._client.get("/models")
        try:
            return str(models["data"][0]["id"])
        except (KeyError, IndexError, TypeError):
            raise ModelNotLoaded(
                f"{self._client.url}/models lists no model: set GRM_OPENAI_MODEL, or GRM_POLICY_MODEL"
            ) from None

    async def _check_seeds(self) -> None:
        """Log a warning if the server ignores seeds, or always returns the same text."""
        prompt = Prompt((Message("user", "Write a word, any word, and then another."),))
        texts = [(await self.complete(prompt, Params(16, 2.0, 1.0, seed))).text for seed in (0, 1, 2, 0)]
        if len(set(texts)) == 1:
            # `transformers serve` does this if the model's generation_config does not set do_sample.
            logger.warning(
                "%s returns the same text for every seed: all k samples will be identical", self._client.url
            )
        elif texts[0] != texts[3]:
            # SGLang uses seeds only when started with --enable-deterministic-inference.
            logger.warning(
                "%s does not return the same text for the same seed: verdicts cannot be reproduced",
                self._client.url,
            )


def _request_body(capabilities: ServerCapabilities, prompt: Prompt, params: Params) -> dict[str, Any]:
    messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
    body: dict[str, Any] = {
        "messages": messages,
        "max_tokens": params.max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "seed": params.seed,
        **capabilities.full_distribution,
    }
    if prompt.continuation and capabilities.continuation is not None:
        messages.append({"role": "assistant", "content": prompt.continuation})
        body |= capabilities.continuation
    if params.regex is not None and capabilities.regex is not None:
        body |= capabilities.regex(params.regex)
    if params.alternatives and capabilities.logprobs:
        # SGLang applies the temperature to logprobs. Soft scores sample greedily, where they are the model's
        # own.
        body |= {"logprobs": True, "top_logprobs": params.alternatives}
    return body


def _parse_completion(body: dict[str, Any]) -> Completion:
    try:
        choice = body["choices"][0]
        reason = choice.get("finish_reason")
        if reason in ("abort", "error"):
            raise ValueError(f"the server gave up: {reason}")
        return Completion(
            text=_parse_text(choice["message"]["content"], reason),
            finish_reason="length" if reason == "length" else "stop",
            usage=_parse_usage(body.get("usage") or {}),
            alternatives=tuple(map(_parse_logprobs, (choice.get("logprobs") or {}).get("content") or ())),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise EngineError(f"the server's reply has no completion ({error!r}): {str(body)[:300]}") from None


def _without_continuation(continuation: str, completion: Completion) -> Completion:
    if not completion.text.startswith(continuation):
        raise EngineError("the server's reply does not start with the continuation, as it did at startup")
    return replace(completion, text=completion.text.removeprefix(continuation))


def _parse_text(content: Any, reason: str | None) -> str:
    if content is None and reason == "length":
        return ""  # a reasoning model that reached max_tokens before its answer
    if not isinstance(content, str):
        raise TypeError("content is not a string")
    return content


def _parse_usage(usage: dict[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        cached_tokens=int(details.get("cached_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
    )


def _parse_logprobs(position: dict[str, Any]) -> tuple[Alternative, ...]:
    """Return a position's top tokens, the most probable first; vLLM puts the sampled token first."""
    row = [Alternative(str(each["token"]), float(each["logprob"])) for each in position["top_logprobs"]]
    return tuple(sorted(row, key=lambda each: -each.logprob))
