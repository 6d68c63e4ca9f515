"""slime's remote reward model: `--rm-type remote_rm --rm-url http://HOST:PORT/slime?group=8`.

One response a call over 64 connections, 120 s with the wait for a connection; ten tries, then the rollout
dies. So calls are held and answered in time.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from grm_service.api.dialects.turns import Turns, messages, reference
from grm_service.api.dialects.wish import Wish
from grm_service.api.problems import JUDGING
from grm_service.api.schemas import Text
from grm_service.api.state import surface
from grm_service.core import transcripts

HOLD_S = 110.0
router = APIRouter(tags=["dialects"])


class SlimeWish(Wish):
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
        asked = transcripts.conversation(body.prompt)
        response = transcripts.continued(body.prompt, body.response)
    else:
        asked, response = messages(body.prompt), transcripts.bare(body.response)
    reward = await surface(request, "slime").single(request, wish, asked, response, reference(body.label))
    return {"reward": reward.value, **reward.numbers} if wish.as_dict else reward.value
