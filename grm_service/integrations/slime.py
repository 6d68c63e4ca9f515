"""slime (as of September 2026): `--group-rm --custom-rm-path grm_service.integrations.slime.group_rm`.

All samples of a group are judged together. With `--dynamic-sampling-filter-path
grm_service.integrations.slime.judged`, a group without a verdict is dropped and another one sampled; without
a filter, a failure raises NoVerdict, which ends the rollout. Evaluation has no groups: use `single_rm` there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from grm_service import chat_templates
from grm_service.client import AsyncClient
from grm_service.integrations.common import judge_groups, rewards_in_order, service, without_end_tokens


async def group_rm(args: Any, samples: Sequence[Any], **_: Any) -> list[float | None]:
    """Return the rewards of a group by the service at GRM_URL; see `make`."""
    return await make(service())(args, samples)


async def single_rm(args: Any, sample: Any, **_: Any) -> float:
    """Return the reward of a sample, judged alone. Raises NoVerdict."""
    (reward,) = await _rewards(service(), [sample], {}, may_fail=False)
    assert reward is not None
    return reward


def make(client: AsyncClient, **options: Any) -> Callable[..., Awaitable[list[float | None]]]:
    """Return a `group_rm` for a file of your own; `options` are fields of `POST /v1/rewards`, such as `k`.

    The function returns the rewards of the samples of one prompt, in order. Where judging failed they are
    None if slime has a dynamic filter to drop the group; without one it raises NoVerdict.
    """

    async def rewards(args: Any, samples: Sequence[Any], **_: Any) -> list[float | None]:
        may_fail = getattr(args, "dynamic_sampling_filter_path", None) is not None
        return await _rewards(client, samples, options, may_fail)

    return rewards


def judged(args: Any, samples: Sequence[Any], **_: Any) -> bool:
    """Return True for a group that has rewards: a dynamic sampling filter."""
    return all(sample.reward is not None for sample in samples)


async def _rewards(
    client: AsyncClient, samples: Sequence[Any], options: Mapping[str, Any], may_fail: bool
) -> list[float | None]:
    prompt: Any = samples[0].prompt
    completions = [_completion(prompt, sample.response) for sample in samples]
    if isinstance(prompt, str):  # slime applies the chat template when it loads the data
        prompt = chat_templates.parse_prompt(prompt)
    labels = {"reference": [samples[0].label] * len(samples)}
    results = await judge_groups(client, [prompt] * len(samples), completions, labels, options)
    return rewards_in_order(results, may_fail)


def _completion(prompt: Any, response: Any) -> Any:
    if isinstance(prompt, str) and isinstance(response, str):
        return chat_templates.join_prefill(prompt, response)
    return without_end_tokens(response)
