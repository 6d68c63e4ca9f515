"""NeMo Gym (as of September 2026): a resources server with this `app.py`:

    from grm_service.integrations.nemo_gym import GRMResourcesServer
    if __name__ == "__main__":
        GRMResourcesServer.run_webserver()

Each response is judged alone. A failure raises NeMo Gym's JudgeError: NeMo Gym tags the row `judge_failed`
and leaves it out of training, so the 0 in its `reward` has no effect.
"""

from collections.abc import Mapping
from typing import Any

from grm_service.client import AsyncClient
from grm_service.integrations.common import row_fields, service, to_query, to_response


async def judge(row: Mapping[str, Any], client: AsyncClient | None = None, **options: Any) -> float:
    """Return the reward of a row of `POST /verify`; custom servers can call it too. Raises NoVerdict.

    The row's `reference` and `principles` are sent with it; `options` are fields of `POST /v1/rewards`.
    """
    query = to_query(row["responses_create_params"]["input"])
    # A policy that did not answer is judged as empty.
    response = to_response([*row["response"]["output"], {"role": "assistant", "content": ""}])
    fields = {"detail": "rewards", **row_fields(row), **options}
    return (await (client or service()).rewards(query, [response], **fields)).rewards[0]


def __getattr__(name: str) -> Any:
    """Define GRMResourcesServer on first access, so that this module can be imported without NeMo Gym."""
    if name != "GRMResourcesServer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nemo_gym.base_resources_server import BaseVerifyRequest, BaseVerifyResponse, SimpleResourcesServer
    from nemo_gym.judge import run_judge

    class GymRow(BaseVerifyRequest):  # type: ignore[misc]
        """A request of `/verify` with the dataset's columns."""

        model_config = BaseVerifyRequest.model_config | {"extra": "allow"}

    class JudgedRow(BaseVerifyResponse):  # type: ignore[misc]
        """The row with its reward."""

        model_config = BaseVerifyResponse.model_config | {"extra": "allow"}

    class GRMResourcesServer(SimpleResourcesServer):  # type: ignore[misc]
        """A stateless resources server whose `/verify` returns rewards of the service."""

        async def verify(self, body: GymRow) -> JudgedRow:
            row = body.model_dump()
            return JudgedRow(**row, reward=await run_judge(judge(row)))

    globals()[name] = GRMResourcesServer
    return GRMResourcesServer
