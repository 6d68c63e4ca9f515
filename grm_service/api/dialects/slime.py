"""slime's remote reward model: `--rm-type remote_rm --rm-url http://HOST:PORT/slime?group=8`.

slime sends one response per call over 64 connections, with a timeout of 120 s that includes the wait for a
connection; after ten tries the rollout fails. So requests are held, for less than its timeout.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field

from grm_service import chat_templates
from grm_service.api.base import Described
from grm_service.api.dialects.adapter import adapter
from grm_service.api.dialects.query_options import QueryOptions
from grm_service.api.dialects.turns import Turns, to_messages, to_response
from grm_service.api.json_bodies import JSONRoute, in_proportion
from grm_service.api.responses import JUDGING, example
from grm_service.api.texts import Text
from grm_service.plain_values import to_reference
from grm_service.types import Message

HOLD_S = 110.0  # slime's timeout is 120 s
router = APIRouter(tags=["dialects"], route_class=JSONRoute)


class SlimeOptions(QueryOptions):
    """The query parameters of slime's route."""

    as_dict: bool = Field(
        False, description="Return an object with `reward` and metrics, for `--reward-key reward`."
    )


class RemoteRM(Described):
    """One sample of the policy."""

    prompt: Text | Turns
    """The conversation before the response: a text in its chat template, or turns, oldest first."""
    response: Text
    """The response."""
    label: Any = None
    """Reference answer of any type; null, NaN and blank ones are none."""

    def exchange(self) -> tuple[tuple[Message, ...], str, str | None]:
        """Return the conversation, the response and the reference. Raises NotText."""
        if isinstance(self.prompt, str):
            prompt = chat_templates.parse_prompt(self.prompt)
            response = chat_templates.join_prefill(self.prompt, self.response)
        else:
            prompt, response = to_messages(self.prompt), chat_templates.strip_end_tokens(self.response)
        return prompt, to_response(response), to_reference(self.label)


@router.post("/slime", summary="Judge a sample of slime", responses=example("/slime") | JUDGING)
async def slime(
    request: Request, options: Annotated[SlimeOptions, Query()], body: RemoteRM
) -> float | dict[str, float]:
    """Return the reward of a sample to slime: a number, or an object with `as_dict`."""
    exchange = await in_proportion(request, body.exchange)
    reward = await adapter(request, "slime").single(request, options, *exchange)
    return {"reward": reward.value, **reward.metrics} if options.as_dict else reward.value
