"""Rewards through chat completions, as of NVIDIA NIM: the last turn, the assistant's, is judged."""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from grm_service.api.base import Described
from grm_service.api.dialects.adapter import adapter, openai_usage
from grm_service.api.dialects.query_options import QueryOptionsParam
from grm_service.api.dialects.turns import Turn, to_messages, to_response
from grm_service.api.json_bodies import JSONRoute, in_proportion
from grm_service.api.responses import JUDGING, example
from grm_service.api.texts import Text
from grm_service.errors import BadTask

router = APIRouter(tags=["dialects"], route_class=JSONRoute)


class Chat(Described):
    """A conversation that ends in the response; other fields of chat completions are ignored."""

    model: Text | None = None
    """Copied to the reply; it selects nothing, see the parameter `profile`."""
    messages: Annotated[list[Turn], Field(min_length=2, max_length=1000)]
    """The conversation, oldest turn first; the last turn is the response and must be the assistant's."""
    stream: bool = False
    """Must be false: this route does not stream."""


@router.post(
    "/v1/chat/completions",
    summary="Judge the end of a conversation",
    responses=example("/v1/chat/completions") | JUDGING,
)
async def chat(request: Request, options: QueryOptionsParam, body: Chat) -> dict[str, Any]:
    """Judge the last turn, as NVIDIA NIM's reward models do: the content of the reply is `reward:7.25`."""
    if body.messages[-1].role != "assistant":
        raise BadTask("the last message must be the assistant's: it is the response to judge")
    if body.stream:
        raise BadTask("this route does not stream: use POST /v1/rewards with stream")
    *before, last = body.messages
    query = await in_proportion(request, to_messages, before)
    response = await in_proportion(request, to_response, dict(last))
    reward = await adapter(request, "chat").single(request, options, query, response)
    message = {"role": "assistant", "content": f"reward:{reward.value:.6g}"}
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body.model or "",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": openai_usage([reward]),
    }
