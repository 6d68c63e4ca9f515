"""ms-swift (read at 4.6.0): a plugin file of your own with two lines, and `--reward_funcs grm`.

    from grm_service.integrations.swift import register
    register(k=8)

All completions of a prompt are judged together. Where there is no verdict it raises, and the step stops:
ms-swift would sum a None up to 0. Do not name this very file in `--external_plugins`: ms-swift puts a
plugin's folder before all others, and this one has a trl.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from grm_service.client import AsyncClient, NoVerdict
from grm_service.integrations.common import judged, service


class GRM:
    """What ms-swift takes for an AsyncORM: made with the trainer's arguments, called once a step.

    Subclasses set `client` and `options` (fields of `POST /v1/rewards`); see `register`.
    """

    client: AsyncClient | None = None
    options: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, args: Any = None, **_: Any) -> None:
        self.args = args

    async def __call__(
        self, completions: Sequence[str], messages: Sequence[Sequence[dict[str, Any]]], **rows: Any
    ) -> list[float]:
        """One reward for each completion, in their order. Raises NoVerdict where one is missing.

        `messages` are whole conversations: what goes before their last turn, the completion, is the prompt.
        """
        prompts = [turns[:-1] for turns in messages]
        rewards: list[float] = []
        for _, answer in await judged(self.client or service(), prompts, completions, rows, self.options):
            if isinstance(answer, NoVerdict):
                raise answer
            rewards += answer.rewards
        return rewards


def register(name: str = "grm", client: AsyncClient | None = None, **options: Any) -> None:
    """Makes `--reward_funcs NAME` known; `client` None: the service that GRM_URL and GRM_KEY name."""
    from swift.rewards import orms

    orms[name] = type("GRM", (GRM,), {"client": client, "options": options})
