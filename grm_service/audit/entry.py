"""Audit entries: verdicts, reviews and checkpoints as canonical JSON, with the columns to search by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from grm_service.audit.records import Record, Review, as_written
from grm_service.audit.summary import summarise
from grm_service.types import JudgeOptions

_RECORD, _REVIEW = TypeAdapter(Record), TypeAdapter(Review)
KINDS = ("verdict", "review", "checkpoint", "restart")
_OPTIONS = [field.name for field in fields(JudgeOptions)]
_TEXTS = {"responses", "text", "content", "analysis", "reference", "error_detail"}
"""Fields that hold text written by people or models."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of the trail. Only `body` is hashed; the other fields are copied from it for searching."""

    kind: str
    id: str
    subject: str | None
    created: str
    caller: str
    profile: str
    status: str
    worth: float
    summary: str
    body: str


def canonical_json(value: object) -> str:
    """Return the canonical JSON of a value: sorted keys, no spaces, UTF-8, finite numbers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def record_hash(previous: str, seq: int, body: str) -> str:
    """Return the hash of record `seq`; `previous` is the hash of the record before it."""
    return "sha256:" + hashlib.sha256(f"{previous}\n{seq}\n{body}".encode()).hexdigest()


def from_record(record: Record, store_text: bool = True) -> Entry:
    """Return the entry of a verdict; without `store_text`, with hashes in place of texts.

    Hashed verdicts can still be compared, but not replayed.
    """
    data = _RECORD.dump_python(record, mode="json", exclude={"replayed"})
    # Stored tasks have always been flat: the options are fields of the task.
    data["task"] |= data["task"].pop("options")
    return _entry("verdict", data if store_text else _hashed(data), store_text)


def from_review(review: Review) -> Entry:
    """Return the entry of a review, always with its texts."""
    return _entry("review", _REVIEW.dump_python(review, mode="json"))


def from_checkpoint(id_: str, created: datetime, removed: Mapping[str, object]) -> Entry:
    """Return the entry that records which records retention removed."""
    return _entry("checkpoint", {"id": id_, "created": timestamp(created), **removed})


def from_restart(id_: str, created: datetime, why: Mapping[str, object]) -> Entry:
    """Return the entry that begins a new chain, and records why the old one was given up."""
    return _entry("restart", {"id": id_, "created": timestamp(created), **why})


def data_of(body: str) -> Mapping[str, Any]:
    """Return the content of a body: what a checkpoint or restart records."""
    data: Mapping[str, Any] = json.loads(body)["data"]
    return data


def parse(body: str) -> Entry:
    """Return the entry of a body in canonical JSON, which excludes double keys.

    Raises ValueError, LookupError, TypeError, AttributeError or RecursionError if it is not valid.
    """
    value = json.loads(body)
    if value["kind"] not in KINDS or canonical_json(value) != body:
        raise ValueError("not a record in canonical JSON")
    return _with_columns(value["kind"], value["data"], body)


def to_record(body: str) -> Record:
    """Return the verdict in a body; its texts are hashes if it was stored without texts."""
    record, _ = to_record_with_text(body)
    return record


def to_record_with_text(body: str) -> tuple[Record, bool]:
    """Return the verdict in a body, and whether it holds texts (see `has_text`), parsing it once."""
    with as_written():
        value = json.loads(body)
        task = value["data"]["task"]
        task["options"] = {name: task.pop(name) for name in _OPTIONS if name in task}
        return _RECORD.validate_python(value["data"]), bool(value["text"])


def to_review(body: str) -> Review:
    """Return the review in a body."""
    with as_written():
        return _REVIEW.validate_python(json.loads(body)["data"])


def has_text(body: str) -> bool:
    """Return whether a body holds texts, as opposed to their hashes."""
    return bool(json.loads(body)["text"])


def timestamp(when: datetime) -> str:
    """Return a time in the format of the `created` column, which sorts by time."""
    return when.isoformat().replace("+00:00", "Z")


def _entry(kind: str, data: dict[str, Any], store_text: bool = True) -> Entry:
    return _with_columns(kind, data, canonical_json({"kind": kind, "text": store_text, "data": data}))


def _with_columns(kind: str, data: Mapping[str, Any], body: str) -> Entry:
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
        summary=canonical_json(summarise(data) if kind == "verdict" else {}),
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
