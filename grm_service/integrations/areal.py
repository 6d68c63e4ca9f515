"""AReaL (read at 1.0.4): `workflow="grm_service.integrations.areal.GRMWorkflow"`, without a `reward_fn`.

It is AReaL's RLVRWorkflow. With the option `group`, the number of samples, the service gathers the responses
to a prompt and judges them together; without it each is judged alone. Where there is no verdict it raises,
and AReaL drops the trajectory. There is nothing here to give as `reward_fn`: those run in a pool of
processes, and one that has no answer after 15 s, its wait for the pool included, counts as a reward of 0.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from grm_service import chat_templates
from grm_service.client import AsyncClient
from grm_service.integrations.common import columns, query, reference, service


def make(client: AsyncClient | None = None, **options: Any) -> Callable[..., Awaitable[float]]:
    """A reward function for a workflow of your own; `options` are those of AsyncClient.single where `group`
    is among them, else fields of `POST /v1/rewards`.

    It gives the reward of one response, and raises NoVerdict. The prompt and the response come as
    chat-templated text; where the dataset's row has `messages`, those are the prompt. Its `answer` or
    `reference`, if it is a text, is the reference. `client` None: the service that GRM_URL and GRM_KEY name.
    """

    async def reward(
        prompt: str, completions: str, prompt_ids: Any = None, completion_ids: Any = None, **row: Any
    ) -> float:
        messages = row.get("messages") or chat_templates.conversation(prompt)
        asked, written = (
            {**reference(row.get("answer")), **columns(row), **options},
            chat_templates.bare(completions),
        )
        asks = client or service()
        if "group" in options:
            return (await asks.single(query(messages), written, **asked)).reward
        return (await asks.rewards(query(messages), [written], **{"detail": "rewards", **asked})).rewards[0]

    return reward


reward = make()
"""For the service that GRM_URL and GRM_KEY name."""


def __getattr__(name: str) -> Any:
    """GRMWorkflow, once AReaL is there to derive it from."""
    if name != "GRMWorkflow":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from areal.workflow.rlvr import RLVRWorkflow

    class GRMWorkflow(RLVRWorkflow):  # type: ignore[misc]
        """RLVRWorkflow with rewards from the service; takes its other arguments, and `make`'s options."""

        def __init__(self, *args: Any, options: Mapping[str, Any] | None = None, **others: Any) -> None:
            super().__init__(reward, *args, **others)
            self.async_reward_fn = make(**(options or {}))  # in place of the pool with its 15 s

    globals()[name] = GRMWorkflow
    return GRMWorkflow
