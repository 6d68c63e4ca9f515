"""NeMo Gym (read in September 2026): a resources server whose `app.py` is these lines.

    from grm_service.integrations.nemo_gym import GRMResourcesServer
    if __name__ == "__main__":
        GRMResourcesServer.run_webserver()

Each response is judged alone. Where there is no verdict it raises NeMo Gym's own JudgeError: the row is
tagged `judge_failed` and left out, so that the 0 which NeMo Gym writes beside it is no reward.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from grm_service.client import AsyncClient
from grm_service.integrations.common import columns, query, service, text

Items = Sequence[Mapping[str, Any]]


async def judge(row: Mapping[str, Any], client: AsyncClient | None = None, **options: Any) -> float:
    """The reward of a row of `POST /verify`, for servers of your own too. Raises NoVerdict.

    Its columns `reference` and `principles` are sent along; `options` are fields of `POST /v1/rewards`.
    """
    prompt = row["responses_create_params"]["input"]
    written = "\n\n".join(text(item["content"]) for item in _messages(row["response"]["output"]))
    asked = {"detail": "rewards", **columns(row), **options}
    prompt = prompt if isinstance(prompt, str) else _messages(prompt)
    return (await (client or service()).rewards(query(prompt), [written], **asked)).rewards[0]


def _messages(items: Items) -> Items:
    """Without reasoning and calls of tools."""
    return [item for item in items if item.get("type", "message") == "message"]


def __getattr__(name: str) -> Any:
    """GRMResourcesServer, once NeMo Gym is there to derive it from."""
    if name != "GRMResourcesServer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nemo_gym.base_resources_server import BaseVerifyRequest, BaseVerifyResponse, SimpleResourcesServer
    from nemo_gym.judge import run_judge

    class GymRow(BaseVerifyRequest):  # type: ignore[misc]
        """With the dataset's columns."""

        model_config = BaseVerifyRequest.model_config | {"extra": "allow"}

    class JudgedRow(BaseVerifyResponse):  # type: ignore[misc]
        """The row again, with its reward."""

        model_config = BaseVerifyResponse.model_config | {"extra": "allow"}

    class GRMResourcesServer(SimpleResourcesServer):  # type: ignore[misc]
        """Judges what is to be verified; keeps nothing."""

        async def verify(self, body: GymRow) -> JudgedRow:
            row = body.model_dump()
            return JudgedRow(**row, reward=await run_judge(judge(row)))

    globals()[name] = GRMResourcesServer
    return GRMResourcesServer
