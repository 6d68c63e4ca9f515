"""AReaL 1.0.4: `workflow="grm_service.integrations.areal.GRMWorkflow"`, without a `reward_fn`.

A subclass of AReaL's RLVRWorkflow. With the option `group` (the number of samples per prompt) the service
gathers the responses to a prompt and judges them together; without it, each is judged alone. A failure raises
NoVerdict, and AReaL drops the trajectory. There is no function to pass as `reward_fn`: AReaL runs those in a
process pool with a timeout of 15 s, the wait for the pool included, after which the reward is 0.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from grm_service import chat_templates
from grm_service.client import AsyncClient
from grm_service.integrations.common import (
    reference_field,
    row_fields,
    service,
    to_query,
    to_response,
    without_end_tokens,
)


def make(client: AsyncClient | None = None, **options: Any) -> Callable[..., Awaitable[float]]:
    """Return a reward function for a custom workflow.

    `options` are those of AsyncClient.single if they include `group`, else fields of `POST /v1/rewards`.
    `client` None: the service at GRM_URL.

    The function returns the reward of one response, or raises NoVerdict. Prompt and response are text in a
    chat template; if the dataset row has `messages`, they are the prompt instead. Its `answer` or
    `reference` is the reference answer.
    """

    async def reward(
        prompt: str, completions: str, prompt_ids: Any = None, completion_ids: Any = None, **row: Any
    ) -> float:
        messages = row.get("messages")
        messages = to_query(
            chat_templates.parse_prompt(prompt) if messages is None or not len(messages) else messages
        )
        response = to_response(without_end_tokens(completions))
        fields = {**reference_field(row.get("answer")), **row_fields(row), **options}
        grm = client or service()
        if "group" in options:
            return (await grm.single(messages, response, **fields)).reward
        return (await grm.rewards(messages, [response], **{"detail": "rewards", **fields})).rewards[0]

    return reward


reward = make()
"""The reward function for the service at GRM_URL."""


def __getattr__(name: str) -> Any:
    """Define GRMWorkflow on first access, so that this module can be imported without AReaL."""
    if name != "GRMWorkflow":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from areal.workflow.rlvr import RLVRWorkflow

    class GRMWorkflow(RLVRWorkflow):  # type: ignore[misc]
        """RLVRWorkflow with rewards from the service, without `reward_fn`; `options` are those of `make`."""

        def __init__(self, *args: Any, options: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
            super().__init__(reward, *args, **kwargs)
            self.async_reward_fn = make(**(options or {}))  # bypasses the process pool and its timeout

    globals()[name] = GRMWorkflow
    return GRMWorkflow
