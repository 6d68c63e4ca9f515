"""Any OpenAI-compatible server, by chat completions: vLLM is the reference.

How a partial answer is continued and a regex kept are vLLM's extensions. What a server lacks is found out
once, at the start, and the judge works around it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from typing import Any

import httpx

from grm_service.engines.base import Abilities
from grm_service.errors import BadTask, EngineError, EngineUnreachable, ModelNotLoaded, PromptTooLong
from grm_service.types import Completion, Message, Params, Prompt, Usage

logger = logging.getLogger(__name__)
_TRIES = 3
_HELLO = (Message("user", "Say: yes"),)


class OpenAIEngine:
    """One server. `base_url` ends in /v1; `model` None takes the first that the server lists.

    `timeout_s` bounds one completion. The connection pool holds `connections`, since a smaller one would
    silently queue what the server could batch.
    """

    name = "openai"
    abilities = Abilities()
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
        self._url = base_url.rstrip("/")
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(timeout_s, connect=10.0),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            transport=transport,
        )

    async def start(self) -> None:
        """Asks for a first token and for what the server can do. Raises ModelNotLoaded, EngineUnreachable."""
        if not self.model:
            self.model = await self._first_model()
        try:
            await self.complete(Prompt(_HELLO), Params(max_tokens=1))
        except _Refused as refused:
            raise ModelNotLoaded(f"{self._url} does not serve {self.model}: {refused}") from refused
        continues = await self._accepts(Prompt(_HELLO, "y"), Params(max_tokens=1))
        constrains = continues and await self._accepts(Prompt(_HELLO, "y"), Params(max_tokens=4, regex="es"))
        self.abilities = Abilities(continues, constrains, alternatives=False)
        await self._warn_where_it_does_not_sample()
        logger.info(
            "%s serves %s; continues answers: %s; keeps a regex: %s",
            self._url,
            self.model,
            self.abilities.continues,
            self.abilities.constrains,
        )

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """One completion; cancelling closes its connection. Raises EngineError, PromptTooLong."""
        if prompt.continuation and not self.abilities.continues:
            raise EngineError(f"{self._url} cannot continue a partial answer")
        return _completion(await self._post("/chat/completions", self._body(prompt, params)))

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    def _body(self, prompt: Prompt, params: Params) -> dict[str, Any]:
        messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "max_tokens": params.max_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "seed": params.seed,
        }
        if prompt.continuation:
            messages.append({"role": "assistant", "content": prompt.continuation})
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if params.regex is not None and self.abilities.constrains:
            body["structured_outputs"] = {"regex": params.regex}
        return body

    async def _first_model(self) -> str:
        listed = _object(await self._send("GET", "/models"))
        try:
            return str(listed["data"][0]["id"])
        except (KeyError, IndexError, TypeError):
            raise ModelNotLoaded(f"{self._url}/models names no model: set GRM_OPENAI_MODEL") from None

    async def _accepts(self, prompt: Prompt, params: Params) -> bool:
        try:
            await self.complete(prompt, params)
        except _Refused:
            return False
        return True

    async def _warn_where_it_does_not_sample(self) -> None:
        ask = Prompt((Message("user", "Write a word, any word, and then another."),))
        drawn = [await self.complete(ask, Params(16, 2.0, 1.0, seed)) for seed in range(3)]
        if len({completion.text for completion in drawn}) == 1:
            # transformers serve does this to a model whose generation_config lacks do_sample.
            logger.warning(
                "%s gives the same text for every seed: k samples will be one and the same", self._url
            )

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return _object(await self._send("POST", path, json=body))

    async def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        retry_after = None
        problem = EngineUnreachable(self._url)
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(_pause(retry_after, attempt))
            try:
                reply = await self._client.request(method, self._url + path, **content)
            except httpx.TimeoutException:
                raise EngineUnreachable(f"{self._url} did not answer in time") from None
            except httpx.HTTPError as failed:
                problem = EngineUnreachable(
                    f"{self._url} cannot be reached: {failed or type(failed).__name__}"
                )
                continue
            if reply.status_code != 429 and reply.status_code < 500:
                return self._checked(reply)
            problem = EngineUnreachable(f"{self._url} answered {reply.status_code}: {_said(reply)}")
            retry_after = reply.headers.get("retry-after")
        raise problem

    def _checked(self, reply: httpx.Response) -> httpx.Response:
        if reply.status_code < 400:
            return reply
        if reply.status_code in (401, 403):
            raise EngineError(f"{self._url} refused the key ({reply.status_code}): check GRM_OPENAI_API_KEY")
        raise _refusal(f"{self._url} refused the request ({reply.status_code}): {_said(reply)}")


class _Refused(EngineError):
    """The server calls the request wrong (4xx): trying again does not help."""

    retryable = False


def _refusal(said: str) -> BadTask | EngineError:
    """What the server said against a prompt, as PromptTooLong where its sizes can be read."""
    if not re.search(r"context length|maximum context|too long|longer than", said, re.IGNORECASE):
        return _Refused(said)
    context = re.search(r"(?:context length|maximum)\D{0,40}(\d+)", said)
    asked = [int(n) for n in re.findall(r"(\d+)\s*(?:input |prompt )?tokens", said)]
    sizes = [n for n in asked if context is None or n != int(context[1])]
    if context is None or not sizes:
        return BadTask(said)
    return PromptTooLong(max(sizes), 0, int(context[1]))


def _object(reply: httpx.Response) -> dict[str, Any]:
    try:
        body = reply.json()
    except ValueError:
        raise EngineError(f"{reply.url} answered with something that is not JSON: {_said(reply)}") from None
    if not isinstance(body, dict):
        raise EngineError(f"{reply.url} answered with JSON that is not an object: {_said(reply)}")
    return body


def _completion(body: dict[str, Any]) -> Completion:
    try:
        choice = body["choices"][0]
        text = choice["message"]["content"]
        used = body.get("usage") or {}
        details = used.get("prompt_tokens_details") or {}
        if not isinstance(text, str):
            raise TypeError("content is not a text")
        return Completion(
            text=text,
            finish_reason="length" if choice.get("finish_reason") == "length" else "stop",
            usage=Usage(
                prompt_tokens=int(used.get("prompt_tokens") or 0),
                cached_tokens=int(details.get("cached_tokens") or 0),
                completion_tokens=int(used.get("completion_tokens") or 0),
            ),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as wrong:
        raise EngineError(f"the server's reply has no completion ({wrong!r}): {str(body)[:300]}") from None


def _said(reply: httpx.Response) -> str:
    return " ".join(reply.text.split())[:300]


def _pause(retry_after: str | None, attempt: int) -> float:
    """Seconds before the next try: what the server asked for up to 30, else doubling, with jitter."""
    asked = float(retry_after) if retry_after is not None and retry_after.isdigit() else 0.0
    wait: float = min(30.0, max(asked, 0.25 * 2.0**attempt))
    return wait * random.uniform(1.0, 1.25)
