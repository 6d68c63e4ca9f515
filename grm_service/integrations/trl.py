"""TRL (read at 1.16.0): `GRPOTrainer(reward_funcs=grm_reward, ...)`, and RLOOTrainer alike.

All completions of a prompt are judged together. Where there is no verdict the rewards are None: TRL leaves
those completions out of their group's mean and gives them no advantage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from grm_service.client import AsyncClient, NoVerdict
from grm_service.integrations.common import Prompt, judged, service

LogMetric = Callable[[str, float], None]
LogExtra = Callable[[str, list[Any]], None]


@dataclass(frozen=True)
class GRMReward:
    """A reward function that asks `client`; `options` are fields of `POST /v1/rewards`, such as `k`.

    The dataset's columns `reference` and `principles` are sent along. It logs the mean agreement and the
    share of completions without a reward (`grm/agreement`, `grm/failed`), and the verdicts (`grm_verdict`).
    """

    client: AsyncClient
    options: Mapping[str, Any] = field(default_factory=dict)

    async def __call__(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Prompt],
        log_metric: LogMetric | None = None,
        log_extra: LogExtra | None = None,
        **rows: Any,
    ) -> list[float | None]:
        """One reward for each completion, in their order; None where there is none."""
        rewards: list[float | None] = []
        ids: list[str | None] = []
        agreements: list[float] = []
        for group, answer in await judged(self.client, prompts, completions, rows, self.options):
            if isinstance(answer, NoVerdict):
                rewards += [None] * len(group)
                ids += [None] * len(group)
                continue
            rewards += answer.rewards
            ids += [answer.id] * len(group)
            agreements += [answer.agreement] if answer.agreement is not None else []
        if log_extra:
            log_extra("grm_verdict", ids)
        if log_metric:
            log_metric("grm/failed", rewards.count(None) / len(rewards))
        if log_metric and agreements:
            log_metric("grm/agreement", fmean(agreements))
        return rewards


async def grm_reward(
    prompts: Sequence[Prompt], completions: Sequence[Prompt], **more: Any
) -> list[float | None]:
    """GRMReward for the service that GRM_URL and GRM_KEY name."""
    return await GRMReward(service())(prompts, completions, **more)
