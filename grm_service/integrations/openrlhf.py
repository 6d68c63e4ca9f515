"""OpenRLHF 0.11.2: `--reward.remote_url .../site-packages/grm_service/integrations/openrlhf.py`.

OpenRLHF passes text in its chat template, one response at a time. The text is parsed into messages, and each
response is judged alone. A failure raises NoVerdict; OpenRLHF logs it at INFO ("Failed to fetch reward") and
fails later, when it builds the experience without a reward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from grm_service import chat_templates
from grm_service.client import Client
from grm_service.integrations.common import blocking_service, reference_field, to_query, to_response

Reply = dict[str, Any]


def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any]) -> Reply:
    """Return the reward of a response by the service at GRM_URL; see `make`."""
    return make(blocking_service())(queries, prompts, labels)


def make(client: Client, **options: Any) -> Callable[[Sequence[str], Sequence[str], Sequence[Any]], Reply]:
    """Return a `reward_func` for a file of your own; `options` are fields of `POST /v1/rewards`.

    The function expects one query (prompt and response), its prompt and its label, and returns `rewards`,
    `scores` and metrics to log. The label is sent as the reference answer. It raises NoVerdict, and
    ValueError if the prompt was truncated.
    """

    def reward(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any]) -> Reply:
        (text,), (prompt,), (label,) = queries, prompts, labels
        messages = to_query(chat_templates.parse_prompt(prompt))
        response = to_response(chat_templates.extract_response(text, prompt))
        fields = {"detail": "rewards", **reference_field(label), **options}
        verdict = client.rewards(messages, [response], **fields)
        logs = {"grm_std": verdict.std[0], "grm_counted": verdict.counted}
        return {"rewards": verdict.rewards[0], "scores": verdict.rewards[0], "extra_logs": logs}

    return reward
