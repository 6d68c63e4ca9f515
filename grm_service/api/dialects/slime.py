"""slime's remote reward model: `--rm-type remote_rm --rm-url http://HOST:PORT/slime?group=8`.

One response a call over 64 connections, 120 s with the wait for a connection; ten tries, then the rollout
dies. So calls are held and answered in time.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from grm_service import chat_templates
from grm_service.api.dialects.adapter import adapter
from grm_service.api.dialects.query_options import QueryOptions
from grm_service.api.dialects.turns import Turns, messages, reference
from grm_service.api.problems import JUDGING
from grm_service.api.schemas import Text

HOLD_S = 110.0
router = APIRouter(tags=["dialects"])


class SlimeWish(QueryOptions):
    """`as_dict` answers an object with `reward` and more numbers, for `--reward-key reward`."""

    as_dict: bool = False


class RemoteRM(BaseModel):
    """One sample; `label` is the reference where it is a text."""

    prompt: Text | Turns
    response: Text
    label: Any = None


@router.post("/slime", responses=JUDGING)
async def slime(
    request: Request, wish: Annotated[SlimeWish, Query()], body: RemoteRM
) -> float | dict[str, float]:
    """slime. The whole answer becomes the sample's reward: a number, or an object with `as_dict`."""
    if isinstance(body.prompt, str):
        asked = chat_templates.conversation(body.prompt)
        response = chat_templates.continued(body.prompt, body.response)
    else:
        asked, response = messages(body.prompt), chat_templates.bare(body.response)
    reward = await adapter(request, "slime").single(request, wish, asked, response, reference(body.label))
    return {"reward": reward.value, **reward.numbers} if wish.as_dict else reward.value
