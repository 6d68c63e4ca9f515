"""verl (read at 0.9.1): `reward.custom_reward_function.path=pkg://grm_service.integrations.verl`.

verl gives one response at a time and not its prompt: the dataset's `extra_info` must have that. With
`reward_kwargs.group`, the rollout's n, the service gathers the responses to a prompt and judges them
together; without it each is judged alone. Where there is no verdict it raises, which stops the step. Do not
use it with the reward manager `limited`, which turns every exception into a reward of 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grm_service.client import AsyncClient
from grm_service.integrations.common import query, reference, service


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    prompt_key: str = "question",
    client: AsyncClient | None = None,
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    **options: Any,
) -> dict[str, float]:
    """The reward as `score` and two numbers about it: the same keys for all samples of a run.

    `extra_info[prompt_key]` is the prompt, a text or messages; `ground_truth` goes along as the reference
    where it is a text. All after the star is for `reward_kwargs`: `options` are those of AsyncClient.single
    where `group` is among them, else fields of `POST /v1/rewards`. Raises NoVerdict, and ValueError where
    there is no prompt.
    """
    prompt = (extra_info or {}).get(prompt_key)
    if prompt is None:
        raise ValueError(
            f"extra_info[{prompt_key!r}] is missing, and verl does not hand over the prompt: put it there "
            "when making the dataset, or name its key with reward_kwargs.prompt_key"
        )
    asked, client = {**reference(ground_truth), **options}, client or service()
    if "group" in options:
        one = await client.single(query(prompt), solution_str, **asked)
        return {"score": one.reward, "group_size": one.group_size, "agreement": one.agreement}
    verdict = await client.rewards(query(prompt), [solution_str], **{"detail": "rewards", **asked})
    return {"score": verdict.rewards[0], "std": verdict.std[0], "counted": float(verdict.counted)}
