"""AReaL (read at 1.0.4): `workflow="grm_service.integrations.areal.GRMWorkflow"`, without a `reward_fn`.

It is AReaL's RLVRWorkflow with each response judged alone. Where there is no verdict it raises, and AReaL
drops the trajectory. There is nothing here to give as `reward_fn`: those run in a pool of processes, and one
that has no answer after 15 s, its wait for the pool included, counts as a reward of 0.
"""

from __future__ import annotations

from typing import Any

from grm_service.client import AsyncClient
from grm_service.core import transcripts
from grm_service.integrations.asking import columns, query, reference, service


async def reward(
    prompt: str,
    completions: str,
    prompt_ids: Any = None,
    completion_ids: Any = None,
    *,
    client: AsyncClient | None = None,
    **row: Any,
) -> float:
    """The reward of one response, for workflows of your own too. Raises NoVerdict.

    `prompt` and `completions` are chat-templated text; where the dataset's row has `messages`, those are the
    prompt. Its `answer` or `reference`, if it is a text, is the reference.
    """
    messages = row.get("messages") or transcripts.conversation(prompt)
    asked = {"detail": "rewards", **reference(row.get("answer")), **columns(row)}
    verdict = await (client or service()).rewards(query(messages), [transcripts.bare(completions)], **asked)
    return verdict.rewards[0]


def __getattr__(name: str) -> Any:
    """GRMWorkflow, once AReaL is there to derive it from."""
    if name != "GRMWorkflow":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from areal.workflow.rlvr import RLVRWorkflow

    class GRMWorkflow(RLVRWorkflow):  # type: ignore[misc]
        """RLVRWorkflow whose rewards come from the service; takes its other arguments."""

        def __init__(self, *args: Any, **others: Any) -> None:
            super().__init__(reward, *args, **others)
            self.async_reward_fn = reward  # in place of the pool with its 15 s

    globals()[name] = GRMWorkflow
    return GRMWorkflow
