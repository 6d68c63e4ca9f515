"""TRL 1.16.0: `GRPOTrainer(reward_funcs=grm_reward, ...)`, and the same for RLOOTrainer.

All completions of a prompt are judged together. On a failure their rewards are None: TRL excludes these
completions from the mean of their group, and their advantage is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from grm_service.client import AsyncClient, NoVerdict
from grm_service.client.asynchronous import Query, Response
from grm_service.integrations.common import judge_groups, rewards_in_order, service

LogMetric = Callable[[str, float], None]
LogExtra = Callable[[str, list[Any]], None]


@dataclass(frozen=True)
class GRMReward:
    """A reward function for a client and judge options (fields of `POST /v1/rewards`, such as `k`).

    The dataset columns `reference` and `principles` are sent with the requests. It logs the mean agreement,
    the share of completions without a reward (`grm/agreement`, `grm/failed`) and the ids of the verdicts
    (`grm_verdict`).
    """

    client: AsyncClient
    options: Mapping[str, Any] = field(default_factory=dict)

    async def __call__(
        self,
        prompts: Sequence[Query],
        completions: Sequence[Response],
        log_metric: LogMetric | None = None,
        log_extra: LogExtra | None = None,
        **rows: Any,
    ) -> list[float | None]:
        """Return a reward for each completion, in order; None if judging failed."""
        ids: list[str | None] = [None] * len(completions)
        agreements: list[float] = []
        results = await judge_groups(self.client, prompts, completions, rows, self.options)
        rewards = rewards_in_order(results, may_fail=True)
        for group, result in results:
            if isinstance(result, NoVerdict):
                continue
            for i in group:
                ids[i] = result.id
            agreements += [result.agreement] if result.agreement is not None else []
        if log_extra:
            log_extra("grm_verdict", ids)
        if log_metric:
            log_metric("grm/failed", rewards.count(None) / len(rewards))
        if log_metric and agreements:
            log_metric("grm/agreement", fmean(agreements))
        return rewards


async def grm_reward(
    prompts: Sequence[Query], completions: Sequence[Response], **rows: Any
) -> list[float | None]:
    """Return rewards by the service at GRM_URL; see GRMReward."""
    return await GRMReward(service())(prompts, completions, **rows)
