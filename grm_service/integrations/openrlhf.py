"""OpenRLHF (read at 0.11.2): `--reward.remote_url .../site-packages/grm_service/integrations/openrlhf.py`.

OpenRLHF hands over chat-templated text, one response at a time: it is taken apart again, and each response
judged alone. Where there is no verdict it raises; OpenRLHF logs that at INFO ("Failed to fetch reward") and
fails when it makes the experience, since a reward is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from grm_service import chat_templates
from grm_service.client import Client
from grm_service.integrations.common import blocking_service, query, reference

Reply = dict[str, Any]


def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any]) -> Reply:
    """Asks the service that GRM_URL and GRM_KEY name; see `make`."""
    return make(blocking_service())(queries, prompts, labels)


def make(client: Client, **options: Any) -> Callable[[Sequence[str], Sequence[str], Sequence[Any]], Reply]:
    """A `reward_func` for a file of your own; `options` are fields of `POST /v1/rewards`.

    Of one query (prompt and response), its prompt and label: `rewards`, `scores` and numbers to log. A label
    goes along as the reference where it is a text. Raises NoVerdict, and ValueError where the prompt was cut.
    """

    def reward(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any]) -> Reply:
        (text,), (prompt,), (label,) = queries, prompts, labels
        messages = query(chat_templates.conversation(prompt))
        asked = {"detail": "rewards", **reference(label), **options}
        verdict = client.rewards(messages, [chat_templates.response(text, prompt)], **asked)
        logs = {"grm_std": verdict.std[0], "grm_counted": verdict.counted}
        return {"rewards": verdict.rewards[0], "scores": verdict.rewards[0], "extra_logs": logs}

    return reward
