"""Arbitrary request bodies: no 500, no traceback, nothing from the body in the log."""

import json

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.test_faults import served

pytestmark = pytest.mark.timeout(900)
CANARY = "c4n4ry"
VALID = {"query": CANARY, "responses": [CANARY, "other"], "k": 1, "detail": "rewards"}
FIELDS = [
    *VALID, "messages", "profile", "principles", "reference", "seed", "temperature", "max_tokens",
    "timeout_s", "score", "stop", "priority", "stream", "id", "unknown",
]  # fmt: skip
PATHS = ["/v1/rewards", "/v1/principles", "/v1/rewards/batch", "/t/key/v1/rewards"]

texts = st.one_of(st.text(max_size=40), st.just(CANARY), st.just("\x00"), st.just("<|im_end|>"))
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(texts, st.sampled_from(FIELDS)), inner, max_size=4),
    ),
    max_leaves=12,
)
changed = st.dictionaries(st.sampled_from(FIELDS), values, max_size=3).map(lambda new: VALID | new)
bodies = st.one_of(
    changed.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
    st.lists(changed, max_size=3).map(lambda value: json.dumps(value).encode()),
    values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=200),
    st.tuples(changed, st.integers(0, 300)).map(lambda pair: json.dumps(pair[0]).encode()[: pair[1]]),
)
kinds = st.sampled_from(["application/json", "application/x-ndjson", "text/plain", ""])
accepts = st.sampled_from(["*/*", "text/event-stream", "application/x-ndjson"])


@pytest.mark.parametrize(
    "examples", [200, pytest.param(10_000, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_arbitrary_bodies(examples):
    statuses = dict[int, int]()
    with served("--text-chars", "10000") as (url, process), httpx.Client(base_url=url, timeout=30) as client:

        @settings(
            max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(st.sampled_from(PATHS), bodies, kinds, accepts)
        def hostile(path, content, kind, accept):
            answer = client.post(path, content=content, headers={"Content-Type": kind, "Accept": accept})
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            assert answer.status_code < 500 or answer.json()["code"] in (
                "deadline_exceeded",
                "prompt_too_long",
            )
            assert "Traceback" not in answer.text
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/problem+json"

        hostile()
        assert process.poll() is None
        log = process.log.read_text(errors="replace")
    print(f"\n{sum(statuses.values())} bodies: {dict(sorted(statuses.items()))}")
    assert CANARY not in log
    assert "Traceback" not in log
    assert statuses.get(200)
    assert statuses.get(422)
