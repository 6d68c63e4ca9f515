"""The default judge on pairs of which everybody knows the better response; its model is fetched (1.1 GB)."""

import json
from pathlib import Path

import pytest

from grm_service import Judge
from grm_service.settings import Settings

DEFAULT = Settings.model_fields["profile"].default
EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
PAIRS = [json.loads(line) for line in (EXAMPLES / "everyday.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    trail = tmp_path_factory.mktemp("trail")
    with Judge.load(
        profile=DEFAULT, audit_url=f"sqlite:///{trail}/audit.db", audit_key_file=trail / "audit.key"
    ) as judge:
        yield judge


def test_nine_of_ten_everyday_pairs_are_right(judge):
    items = [{"query": pair["messages"], "responses": pair["responses"]} for pair in PAIRS]
    best = [verdict.best for verdict in judge.batch(items, timeout_s=3000)]
    wrong = [pair["id"] for pair, index in zip(PAIRS, best, strict=True) if index != pair["preferred"]]
    assert len(wrong) <= len(PAIRS) // 10, wrong


def test_critique_says_why(judge):
    pair = json.loads((EXAMPLES / "pair.json").read_text())
    verdict = judge.rewards(pair["query"], pair["responses"])
    assert verdict.rewards[0] > verdict.rewards[1] + 2
    assert any("Canberra" in (sample.analysis or "") for sample in verdict.samples)
