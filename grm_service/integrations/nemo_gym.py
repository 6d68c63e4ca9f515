"""NeMo Gym 0.5.1: a resources server with this `app.py`:

    from grm_service.integrations.nemo_gym import GRMResourcesServer
    if __name__ == "__main__":
        GRMResourcesServer.run_webserver()

Each response is judged alone. A failure raises NeMo Gym's JudgeError: NeMo Gym tags the row `judge_failed`
and leaves it out of training, so the 0 in its `reward` has no effect. `gym eval reverify` can judge rows
again, because a reward depends on nothing but its row.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from grm_service.client import AsyncClient, NoVerdict
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
    from nemo_gym.base_resources_server import (
        BaseResourcesServerConfig,
        BaseVerifyRequest,
        BaseVerifyResponse,
        ReverifyMode,
        SimpleResourcesServer,
    )
    from nemo_gym.judge import JudgeError

    class GRMResourcesServerConfig(BaseResourcesServerConfig):  # type: ignore[misc]
        """The server's settings in Gym's configuration."""

        REVERIFY_MODE: ClassVar[ReverifyMode] = ReverifyMode.STATELESS

    class GymRow(BaseVerifyRequest):  # type: ignore[misc]
        """A request of `/verify` with the dataset's columns."""

        model_config = BaseVerifyRequest.model_config | {"extra": "allow"}

    class JudgedRow(BaseVerifyResponse):  # type: ignore[misc]
        """The row with its reward."""

        model_config = BaseVerifyResponse.model_config | {"extra": "allow"}

    class GRMResourcesServer(SimpleResourcesServer):  # type: ignore[misc]
        """A stateless resources server whose `/verify` returns rewards of the service."""

        config: GRMResourcesServerConfig

        async def verify(self, body: GymRow) -> JudgedRow:
            row = body.model_dump()
            try:
                return JudgedRow(**row, reward=await judge(row))
            except NoVerdict as failure:
                raise JudgeError(str(failure)) from failure

    globals()[name] = GRMResourcesServer
    return GRMResourcesServer
