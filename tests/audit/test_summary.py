"""Summaries of stored verdicts."""

from dataclasses import replace

import pytest

from grm_service.audit import entry
from grm_service.audit.summary import read_summary
from grm_service.types import Message, Principle, PrincipleSpec
from tests.audit.records import record


def summary_of(task):
    return read_summary(entry.from_record(record(1, task=task)).summary)


@pytest.mark.parametrize(
    ("spec", "label"),
    [
        (PrincipleSpec(), "self"),
        (PrincipleSpec("fixed", "code"), "fixed:code"),
        (PrincipleSpec("query", None, (Principle("It is right."),)), "query:own"),
    ],
)
def test_summary_names_the_principles(spec, label):
    assert summary_of(record(1).task.with_options(principles=spec)).principles == label


def test_summary_is_small():
    long = Message("user", "y" * 2**20)
    stored = entry.from_record(
        record(1, task=replace(record(1).task, messages=(long,), responses=("x" * 2**20,)))
    )
    assert len(stored.summary) < 1000
    assert read_summary(stored.summary).query == "y" * 300


def test_hashed_verdict_has_a_hashed_summary():
    stored = entry.from_record(record(1), store_text=False)
    assert read_summary(stored.summary).query.startswith("sha256:")
    assert entry.parse(stored.body) == stored
