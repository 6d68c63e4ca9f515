"""SkyRL 0.3.0: a single-turn environment with rewards from the service.

    skyrl_gym.register(id="grm", entry_point="grm_service.integrations.skyrl:GRMEnv")

and `env_class: grm` in the dataset. With `group` (the number of samples per prompt) in `env_config`, the
service gathers the responses to a prompt and judges them together; without it, each is judged alone. A
failure raises NoVerdict in `step`, and SkyRL stops. `environment.skyrl_gym.max_env_workers` (32) limits the
concurrent judgements: raise it, with `group` to the batch size.
"""

from __future__ import annotations

from typing import Any

from grm_service.client import Client
from grm_service.integrations.common import (
    blocking_service,
    reference_field,
    to_query,
    to_response,
    without_end_tokens,
)


def judge(
    prompt: Any, action: str, ground_truth: Any = None, client: Client | None = None, **options: Any
) -> float:
    """Return the reward of one response to a prompt of messages; custom environments can call it too.

    `options` are those of Client.single if they include `group`, else fields of `POST /v1/rewards`;
    `ground_truth` is the reference answer. Raises NoVerdict.
    """
    fields, response = {**reference_field(ground_truth), **options}, to_response(without_end_tokens(action))
    grm = client or blocking_service()
    if "group" in options:
        return grm.single(to_query(prompt), response, **fields).reward
    return grm.rewards(to_query(prompt), [response], **{"detail": "rewards", **fields}).rewards[0]


def __getattr__(name: str) -> Any:
    """Define GRMEnv on first access, so that this module can be imported without SkyRL."""
    if name != "GRMEnv":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from skyrl_gym.envs.base_text_env import BaseTextEnv

    class GRMEnv(BaseTextEnv):  # type: ignore[misc]
        """`env_config` has the options of `judge`, `reward_spec.ground_truth` the reference answer."""

        def __init__(self, env_config: Any = None, extras: Any = None) -> None:
            super().__init__()
            self._options = dict(env_config or {})
            self._ground_truth = ((extras or {}).get("reward_spec") or {}).get("ground_truth")

        def init(self, prompt: Any) -> tuple[Any, dict[str, Any]]:
            self._prompt = prompt
            return prompt, {}

        def step(self, action: str) -> dict[str, Any]:
            reward = judge(self._prompt, action, self._ground_truth, **self._options)
            return {"observations": [], "reward": reward, "done": True, "metadata": {}}

    globals()[name] = GRMEnv
    return GRMEnv
