"""verl 0.9.1: `reward.custom_reward_function.path=pkg://grm_service.integrations.verl`.

verl passes one response at a time, without its prompt, so the dataset's `extra_info` must contain the prompt.
With `reward_kwargs.group` (the rollout's n) the service gathers the responses to a prompt and judges them
together; without it, each is judged alone. A failure raises NoVerdict, which stops the step. Do not use the
reward manager `rate_limited`, which turns every exception into a reward of 0, nor `remote`, which refuses
asynchronous functions. `gdpo` can use `score` and the metrics as several rewards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grm_service.client import AsyncClient
from grm_service.integrations.common import reference_field, service, to_query, to_response


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
    """Return the reward as `score` with two metrics: the same keys for all samples of a run.

    `extra_info[prompt_key]` is the prompt, a text or messages; `ground_truth` is sent as the reference
    answer. The keyword-only parameters are for `reward_kwargs`: `options` are those of
    AsyncClient.single if they include `group`, else fields of `POST /v1/rewards`. Raises NoVerdict, and
    ValueError if there is no prompt.
    """
    prompt = (extra_info or {}).get(prompt_key)
    if prompt is None:
        raise ValueError(
            f"extra_info[{prompt_key!r}] is missing, and verl does not pass the prompt to reward functions: "
            "put it there when you create the dataset, or set reward_kwargs.prompt_key to its key"
        )
    fields, client = {**reference_field(ground_truth), **options}, client or service()
    query, response = to_query(prompt), to_response(solution_str)
    if "group" in options:
        single = await client.single(query, response, **fields)
        return {"score": single.reward, "group_size": single.group_size, "agreement": single.agreement}
    verdict = await client.rewards(query, [response], **{"detail": "rewards", **fields})
    return {"score": verdict.rewards[0], "std": verdict.std[0], "counted": float(verdict.counted)}
