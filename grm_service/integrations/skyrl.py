"""SkyRL (read at 0.3.0): an environment of one turn whose reward is a verdict.

    skyrl_gym.register(id="grm", entry_point="grm_service.integrations.skyrl:GRMEnv")

and `env_class: grm` in the dataset. With `group`, the number of samples, in `env_config` the service gathers
the responses to a prompt and judges them together; without it each is judged alone. Where there is no verdict
`step` raises, and SkyRL stops. As many are judged at once as `environment.skyrl_gym.max_env_workers` says
(32): raise it, to the batch where groups are gathered.
"""

from __future__ import annotations

from typing import Any

from grm_service import chat_templates
from grm_service.client import Client
from grm_service.integrations.common import blocking_service, query, reference


def judge(
    prompt: Any, action: str, ground_truth: Any = None, client: Client | None = None, **options: Any
) -> float:
    """The reward of one response to a prompt of messages, for environments of your own too.

    `options` are those of Client.single where `group` is among them, else fields of `POST /v1/rewards`;
    `ground_truth` is the reference where it is a text. Raises NoVerdict.
    """
    asked, written = {**reference(ground_truth), **options}, chat_templates.bare(action)
    asks = client or blocking_service()
    if "group" in options:
        return asks.single(query(prompt), written, **asked).reward
    return asks.rewards(query(prompt), [written], **{"detail": "rewards", **asked}).rewards[0]


def __getattr__(name: str) -> Any:
    """GRMEnv, once SkyRL's gym is there to derive it from."""
    if name != "GRMEnv":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from skyrl_gym.envs.base_text_env import BaseTextEnv

    class GRMEnv(BaseTextEnv):  # type: ignore[misc]
        """`env_config` has `judge`'s options; `reward_spec.ground_truth` is the reference."""

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
