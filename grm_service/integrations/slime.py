"""slime (read in September 2026): `--group-rm --custom-rm-path grm_service.integrations.slime.group_rm`.

All samples of a group are judged together. With `--dynamic-sampling-filter-path
grm_service.integrations.slime.judged` a group without a verdict is dropped and another one sampled; without a
filter it raises, which ends the rollout. Evaluation allows no group: `single_rm` judges a sample alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from grm_service import chat_templates
from grm_service.client import AsyncClient, NoVerdict
from grm_service.integrations.common import logger, query, reference, service


async def group_rm(args: Any, samples: Sequence[Any], **_: Any) -> list[float | None]:
    """Asks the service that GRM_URL and GRM_KEY name; see `make`."""
    return await make(service())(args, samples)


async def single_rm(args: Any, sample: Any, **_: Any) -> float:
    """The reward of a sample that is judged alone. Raises NoVerdict."""
    return (await _rewards(service(), [sample], {}))[0]


def make(client: AsyncClient, **options: Any) -> Callable[..., Awaitable[list[float | None]]]:
    """A `group_rm` for a file of your own; `options` are fields of `POST /v1/rewards`, such as `k`.

    It gives the rewards of samples of one prompt, in their order, and raises NoVerdict where no filter would
    see that they are None.
    """

    async def rewards(args: Any, samples: Sequence[Any], **_: Any) -> list[float | None]:
        try:
            return list(await _rewards(client, samples, options))
        except NoVerdict as failed:
            if getattr(args, "dynamic_sampling_filter_path", None) is None:
                raise
            logger.warning("no reward for %d samples: %s", len(samples), failed)
            return [None] * len(samples)

    return rewards


def judged(args: Any, samples: Sequence[Any], **_: Any) -> bool:
    """A dynamic filter: keeps the groups that have rewards."""
    return all(sample.reward is not None for sample in samples)


async def _rewards(
    client: AsyncClient, samples: Sequence[Any], options: Mapping[str, Any]
) -> tuple[float, ...]:
    first = samples[0]
    prompt: Any = first.prompt
    if isinstance(prompt, str):  # with its chat template, which slime applies when it reads the data
        responses = [chat_templates.continued(prompt, sample.response) for sample in samples]
        prompt = chat_templates.conversation(prompt)
    else:
        responses = [chat_templates.bare(sample.response) for sample in samples]
    asked = {"detail": "rewards", **reference(first.label), **options}
    return (await client.rewards(query(prompt), responses, **asked)).rewards
