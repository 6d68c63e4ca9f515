"""The summary of a verdict: what lists and statistics show of it, small however long its texts are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from grm_service.audit.records import Reason, as_written

_QUERY_CHARS = 300


@dataclass(frozen=True, slots=True)
class Summary:
    """A verdict without its texts and samples.

    `query` is the start of the last message, `responses` their number. `principles` names their kind: `self`,
    `fixed:code`, `query:own`. `rewards`, `best` and `agreement` are those of the vote.
    """

    route: str
    query: str
    responses: int
    principles: str
    rewards: tuple[float, ...]
    best: int | None
    agreement: float | None
    reasons: tuple[Reason, ...]


_SUMMARY = TypeAdapter(Summary)


def summarise(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the summary of a stored verdict as JSON. Raises KeyError, TypeError or IndexError if invalid."""
    task, vote = data["task"], data["verdict"]["vote"]
    return {
        "route": data["route"],
        "query": task["messages"][-1]["content"][:_QUERY_CHARS],
        "responses": len(task["responses"]),
        "principles": _principles_label(task["principles"]),
        "rewards": vote["rewards"],
        "best": vote["best"],
        "agreement": vote["agreement"],
        "reasons": data["reasons"],
    }


def read_summary(stored: str) -> Summary:
    """Return the summary in the column of that name."""
    with as_written():
        return _SUMMARY.validate_json(stored)


def _principles_label(spec: Mapping[str, Any]) -> str:
    source = spec["set_name"] or ("own" if spec["items"] else None)
    return f"{spec['mode']}:{source}" if source else str(spec["mode"])
