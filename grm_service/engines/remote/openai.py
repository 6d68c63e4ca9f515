"""Any OpenAI-compatible server, by chat completions: vLLM is the reference.

What a server lacks is found out once, at the start (engines/dialect.py), and the judge works around it.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import httpx

from grm_service.engines.remote.server_capabilities import STANDARD, VLLM, ServerCapabilities, learn
from grm_service.engines.remote.upstream import Refused, Upstream, too_long
from grm_service.errors import EngineError, ModelNotLoaded
from grm_service.types import Alternative, Completion, Message, Params, Prompt, Usage

logger = logging.getLogger(__name__)


class OpenAIEngine:
    """One server. `base_url` ends in /v1; `model` None takes the first that the server lists.

    `timeout_s` bounds one completion, further tries included; `connections` how many are asked for at once.
    """

    name = "openai"
    abilities = VLLM.abilities
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
        self._upstream = Upstream(base_url, api_key, timeout_s, connections, transport)
        self._dialect = VLLM

    async def start(self) -> None:
        """Asks for a first token and for what the server can do. Raises ModelNotLoaded, EngineUnreachable."""
        if not self.model:
            self.model = await self._first_model()
        try:
            await self._complete(STANDARD, Prompt((Message("user", "Say: yes"),)), Params(max_tokens=1))
        except Refused as refused:
            raise ModelNotLoaded(f"{self._upstream.url} does not serve {self.model}: {refused}") from refused
        self._dialect = await learn(self._complete)
        self.abilities = self._dialect.abilities
        lacking = ", ".join(self.abilities.lacking()) or "nothing"
        logger.info("%s serves %s; it lacks: %s", self._upstream.url, self.model, lacking)
        await self._warn_of_its_seeds()

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """One completion; cancelling closes its connection. Raises EngineError, PromptTooLong."""
        try:
            return await self._complete(self._dialect, prompt, params)
        except Refused as refused:
            raise too_long(refused, params) or refused from None

    async def close(self) -> None:
        """Closes the connections."""
        await self._upstream.close()

    async def _complete(self, dialect: ServerCapabilities, prompt: Prompt, params: Params) -> Completion:
        if prompt.continuation and dialect.continuing is None:
            raise EngineError(f"{self._upstream.url} cannot continue a partial answer")
        body = {"model": self.model, **_body(dialect, prompt, params)}
        completion = _completion(await self._upstream.post("/chat/completions", body))
        return _without(prompt.continuation, completion) if dialect.repeats else completion

    async def _first_model(self) -> str:
        listed = await self._upstream.get("/models")
        try:
            return str(listed["data"][0]["id"])
        except (KeyError, IndexError, TypeError):
            raise ModelNotLoaded(
                f"{self._upstream.url}/models names no model: set GRM_OPENAI_MODEL, or GRM_POLICY_MODEL"
            ) from None

    async def _warn_of_its_seeds(self) -> None:
        ask = Prompt((Message("user", "Write a word, any word, and then another."),))
        texts = [(await self.complete(ask, Params(16, 2.0, 1.0, seed))).text for seed in (0, 1, 2, 0)]
        if len(set(texts)) == 1:
            # transformers serve does this to a model whose generation_config lacks do_sample.
            logger.warning(
                "%s gives the same text for every seed: k samples will be one and the same",
                self._upstream.url,
            )
        elif texts[0] != texts[3]:
            # SGLang heeds seeds only when started with --enable-deterministic-inference.
            logger.warning(
                "%s does not repeat a text for its seed: a verdict cannot be replayed", self._upstream.url
            )


def _body(dialect: ServerCapabilities, prompt: Prompt, params: Params) -> dict[str, Any]:
    messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
    body: dict[str, Any] = {
        "messages": messages,
        "max_tokens": params.max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "seed": params.seed,
        **dialect.uncut,
    }
    if prompt.continuation and dialect.continuing is not None:
        messages.append({"role": "assistant", "content": prompt.continuation})
        body |= dialect.continuing
    if params.regex is not None and dialect.constraint is not None:
        body |= dialect.constraint(params.regex)
    if params.alternatives and dialect.alternatives:
        # SGLang tells them after the temperature; soft scores ask greedily, where that is the model's own.
        body |= {"logprobs": True, "top_logprobs": params.alternatives}
    return body


def _completion(body: dict[str, Any]) -> Completion:
    try:
        choice = body["choices"][0]
        reason = choice.get("finish_reason")
        if reason in ("abort", "error"):
            raise ValueError(f"the server gave up: {reason}")
        return Completion(
            text=_text(choice["message"]["content"], reason),
            finish_reason="length" if reason == "length" else "stop",
            usage=_usage(body.get("usage") or {}),
            alternatives=tuple(map(_row, (choice.get("logprobs") or {}).get("content") or ())),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as wrong:
        raise EngineError(f"the server's reply has no completion ({wrong!r}): {str(body)[:300]}") from None


def _without(continuation: str, completion: Completion) -> Completion:
    if not completion.text.startswith(continuation):
        raise EngineError("the server's reply does not go on from the continuation, as it did at the start")
    return replace(completion, text=completion.text.removeprefix(continuation))


def _text(content: Any, reason: str | None) -> str:
    if content is None and reason == "length":
        return ""  # a reasoning model that was cut while it still thought
    if not isinstance(content, str):
        raise TypeError("content is not a text")
    return content


def _usage(used: dict[str, Any]) -> Usage:
    details = used.get("prompt_tokens_details") or {}
    return Usage(
        prompt_tokens=int(used.get("prompt_tokens") or 0),
        cached_tokens=int(details.get("cached_tokens") or 0),
        completion_tokens=int(used.get("completion_tokens") or 0),
    )


def _row(position: dict[str, Any]) -> tuple[Alternative, ...]:
    told = [Alternative(str(each["token"]), float(each["logprob"])) for each in position["top_logprobs"]]
    return tuple(sorted(told, key=lambda each: -each.logprob))
