"""Reward models in the formats of vLLM and SGLang, which verl's built-in clients call.

verl does not retry after a 4xx, so a full queue is a 503 here.
"""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from grm_service import chat_templates
from grm_service.api.base import Described
from grm_service.api.dialects.adapter import Reward, adapter, openai_usage
from grm_service.api.dialects.query_options import QueryOptions, QueryOptionsParam
from grm_service.api.dialects.turns import Turn, to_messages, to_response
from grm_service.api.json_bodies import JSONRoute, in_proportion
from grm_service.api.problems import problem
from grm_service.api.responses import JUDGING, example
from grm_service.api.texts import Text
from grm_service.concurrency import gather
from grm_service.errors import BadTask, Overloaded
from grm_service.types import Message

router = APIRouter(tags=["dialects"], route_class=JSONRoute)


class Pooling(Described):
    """Conversations whose last turn is the response, as `input` or `messages`."""

    model: Text | None = None
    """Copied to the reply; null: the reply has the judge's model. It selects nothing, see `profile`."""
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=64)] | None = None
    """A conversation in its chat template, or 1 to 64 of them, each with a response to judge."""
    messages: Annotated[list[Turn], Field(min_length=2, max_length=1000)] | None = None
    """One conversation as turns, oldest first; the last one must be the assistant's."""


@router.post(
    "/classify", summary="Judge conversations in vLLM's format", responses=example("/classify") | JUDGING
)
async def classify(request: Request, options: QueryOptionsParam, body: Pooling) -> Any:
    """Judge conversations, as verl expects it of vLLM: the reward is `data[-1].probs[-1]`."""
    rewards = await _rewards(request, options, body, "classify")
    if isinstance(rewards, JSONResponse):
        return rewards
    data = [
        {"index": i, "label": "reward", "probs": [reward.value], "num_classes": 1}
        for i, reward in enumerate(rewards)
    ]
    return _reply(body, "classify", data, rewards)


@router.post(
    "/v1/embeddings",
    summary="Judge conversations in SGLang's format",
    responses=example("/v1/embeddings") | JUDGING,
)
async def embeddings(request: Request, options: QueryOptionsParam, body: Pooling) -> Any:
    """Judge conversations, as verl expects it of SGLang: the reward is `data[-1].embedding[-1]`."""
    rewards = await _rewards(request, options, body, "embeddings")
    if isinstance(rewards, JSONResponse):
        return rewards
    data = [
        {"index": i, "object": "embedding", "embedding": [reward.value]} for i, reward in enumerate(rewards)
    ]
    return _reply(body, "embd", data, rewards)


async def _rewards(
    request: Request, options: QueryOptions, body: Pooling, route: str
) -> list[Reward] | JSONResponse:
    dialect = adapter(request, route)
    exchanges = await in_proportion(request, _exchanges, body)
    try:
        return await gather(dialect.single(request, options, *exchange) for exchange in exchanges)
    except Overloaded as error:
        return problem(503, error.code, str(error), error.retryable, error.retry_after_s)


def _exchanges(body: Pooling) -> list[tuple[tuple[Message, ...], str]]:
    if (body.input is None) == (body.messages is None):
        raise BadTask("pass either 'input' or 'messages'")
    if body.messages is not None:
        *before, last = body.messages
        _require_assistant(last.role)
        return [(to_messages(before), to_response(dict(last)))]
    texts = [body.input] if isinstance(body.input, str) else body.input or []
    return [_split(chat_templates.parse_conversation(text)) for text in texts]


def _split(turns: tuple[Message, ...]) -> tuple[tuple[Message, ...], str]:
    *before, last = turns
    _require_assistant(last.role if before else None)
    return tuple(before), to_response(last.content)


def _require_assistant(role: str | None) -> None:
    if role != "assistant":
        raise BadTask(
            "the last turn must be the assistant's response to the turns before it, in a known chat template "
            "(ChatML, Llama, Gemma, Phi, Zephyr, DeepSeek, Mistral) or as 'messages'"
        )


def _reply(body: Pooling, name: str, data: list[dict[str, Any]], rewards: list[Reward]) -> dict[str, Any]:
    models = [reward.record.verdict.model for reward in rewards if reward.record is not None]
    return {
        "id": f"{name}-{uuid.uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": body.model or next(iter(models), ""),
        "data": data,
        "usage": openai_usage(rewards),
    }
