"""ms-swift 4.6.0: `--reward_funcs grm`, and a plugin file of your own with two lines:

    from grm_service.integrations.swift import register
    register(k=8)

All completions of a prompt are judged together. A failure raises NoVerdict, and the step stops, because
ms-swift would count None as 0. Do not pass this file itself to `--external_plugins`: ms-swift puts the folder
of a plugin first in `sys.path`, and this one has a trl.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from grm_service.client import AsyncClient
from grm_service.integrations.common import judge_groups, rewards_in_order, service


class GRM:
    """A reward function with the interface of ms-swift's AsyncORM, called once per step.

    Subclasses set `client` and `options` (fields of `POST /v1/rewards`); see `register`.
    """

    client: AsyncClient | None = None
    options: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, args: Any = None, **_: Any) -> None:
        self.args = args

    async def __call__(
        self, completions: Sequence[str], messages: Sequence[Sequence[dict[str, Any]]], **rows: Any
    ) -> list[float | None]:
        """Return a reward for each completion, in order. Raises NoVerdict if one is missing.

        `messages` are whole conversations, whose last turn is the completion.
        """
        prompts = [turns[:-1] for turns in messages]
        results = await judge_groups(self.client or service(), prompts, completions, rows, self.options)
        return rewards_in_order(results, may_fail=False)


def register(name: str = "grm", client: AsyncClient | None = None, **options: Any) -> None:
    """Register `--reward_funcs NAME` with judge options; `client` None: the service at GRM_URL."""
    from swift.rewards import orms

    orms[name] = type("GRM", (GRM,), {"client": client, "options": options})
