"""What is written: a verdict, a review or a checkpoint as canonical JSON, and what it is found by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from grm_service.audit.records import Record, Review
from grm_service.types import JudgeOptions

_RECORD, _REVIEW = TypeAdapter(Record), TypeAdapter(Review)
_OPTIONS = [field.name for field in fields(JudgeOptions)]
_TEXTS = {"responses", "text", "content", "analysis", "reference"}
"""Fields that hold what people or models wrote."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the trail. `body` is what counts and is chained; all else is repeated from it."""

    kind: str
    id: str
    subject: str | None
    created: str
    caller: str
    profile: str
    status: str
    worth: float
    body: str


def canonical(value: object) -> str:
    """The one way in which a value is written: keys sorted, no spaces, UTF-8, finite numbers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def link(previous: str, seq: int, body: str) -> str:
    """The hash of record `seq`, over the hash of the one before."""
    return "sha256:" + hashlib.sha256(f"{previous}\n{seq}\n{body}".encode()).hexdigest()


def of_record(record: Record, keep_text: bool = True) -> Entry:
    """Without texts, their hashes stand in their place: it can be compared, and not be replayed."""
    data = _RECORD.dump_python(record, mode="json", exclude={"replayed"})
    # Records have been flat since the first: a field of the options is a field of the task.
    data["task"] |= data["task"].pop("options")
    return _entry("verdict", data if keep_text else _hashed(data), keep_text)


def of_review(review: Review) -> Entry:
    """With its texts: they are the reviewer's, and the point of it."""
    return _entry("review", _REVIEW.dump_python(review, mode="json"))


def of_checkpoint(id_: str, created: datetime, removed: Mapping[str, object]) -> Entry:
    """Says what retention took away."""
    return _entry("checkpoint", {"id": id_, "created": timestamp(created), **removed})


def read(body: str) -> Entry:
    """The entry of a body. Raises ValueError, KeyError, TypeError or AttributeError where it is none."""
    value = json.loads(body)
    return _found_by(value["kind"], value["data"], body)


def to_record(body: str) -> Record:
    """The verdict that a body holds; hashes in the place of texts where those were not kept."""
    data = json.loads(body)["data"]
    task = data["task"]
    task["options"] = {name: task.pop(name) for name in _OPTIONS if name in task}
    return _RECORD.validate_python(data)


def to_review(body: str) -> Review:
    """The review that a body holds."""
    return _REVIEW.validate_python(json.loads(body)["data"])


def keeps_text(body: str) -> bool:
    """Whether a body holds texts and not their hashes."""
    kept: bool = json.loads(body)["text"]
    return kept


def timestamp(when: datetime) -> str:
    """As bodies have it, to be compared with `created`."""
    return when.isoformat().replace("+00:00", "Z")


def _entry(kind: str, data: dict[str, Any], keep_text: bool = True) -> Entry:
    return _found_by(kind, data, canonical({"kind": kind, "text": keep_text, "data": data}))


def _found_by(kind: str, data: Mapping[str, Any], body: str) -> Entry:
    verdict = data["verdict"] if kind == "verdict" else {}
    return Entry(
        kind=kind,
        id=data["id"],
        subject=data["verdict"] if kind == "review" else None,
        created=data["created"],
        caller=data.get("caller", ""),
        profile=verdict.get("profile", ""),
        status=verdict.get("status", ""),
        worth=data.get("worth", 0.0),
        body=body,
    )


def _hashed(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _hashed(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_hashed(inner, name) for inner in value]
    if isinstance(value, str) and name in _TEXTS:
        return "sha256:" + hashlib.sha256(value.encode()).hexdigest()
    return value
