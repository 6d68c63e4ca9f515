"""Whatever schemathesis makes of our OpenAPI document, right and wrong, is answered as the document says."""

import contextlib
import json
import re
from collections import Counter

import pytest
import schemathesis
from schemathesis.engine import events, from_schema

from grm_service.api import batch
from tests.faults.test_faults import served

pytestmark = pytest.mark.timeout(900)
# All that may be logged of a request: nothing that a caller made up fits into it.
_LINE = re.compile(
    r"INFO:grm_service\.api\.telemetry:[A-Z]+ (unknown|/[a-z0-9_/{}-]*) \d{3} \d+\.\d{3} s|"
    r"WARNING:uvicorn\.error:Invalid HTTP request received\.|DEBUG:asyncio:Using selector: \w+"
)
_NO_BUG = {"all_unreadable", "principles_unreadable", "deadline_exceeded", "siblings_missing"}


@schemathesis.serializer("application/x-ndjson")
def line(context, value):
    return json.dumps(value).encode()


@schemathesis.hook
def before_call(context, case, kwargs):
    """Nobody's siblings will come: waiting for them is as documented, and cut short."""
    if "window_s" in case.operation.query:
        given = case.query.get("window_s")
        with contextlib.suppress(ValueError):
            if given is None or 0 < float(str(given)) <= 3600:
                case.query["window_s"] = 0.01


@schemathesis.check
def what_went_wrong_is_a_problem(context, response, case):
    assert "Traceback" not in response.text
    if response.status_code >= 400:
        assert response.headers["content-type"] == ["application/problem+json"]
        assert response.status_code < 500 or response.json()["code"] in _NO_BUG


def config(examples, coverage):
    return schemathesis.Config.from_dict(
        {
            "generation": {"max-examples": examples},
            "phases": {"coverage": {"enabled": coverage}},
            "checks": {
                # What a schema cannot say (either a query or messages, no NUL) is a 422 that says it.
                "positive_data_acceptance": {"enabled": False},
                "not_a_server_error": {"expected-statuses": ["2xx", "4xx", "502", "503", "504"]},
            },
            # A bad item of a batch spoils nothing else: it fails alone, within a 200.
            "operations": [
                {"include-path": batch.PATH, "checks": {"negative_data_rejection": {"enabled": False}}}
            ],
        }
    )


def failures(told):
    """What the checks of a scenario found, each with the request that shows it."""
    for checks in told.checks.values():
        for check in checks:
            if check.failure_info is not None:
                yield f"{told.label}: {check.failure_info.failure}\n{check.failure_info.code_sample}"


@pytest.mark.parametrize(
    ("examples", "coverage"),
    [(10, False), pytest.param(100, True, marks=pytest.mark.slow)],
    ids=["short", "long"],
)
def test_every_answer_is_as_the_document_says(examples, coverage):
    seen, failed = Counter(), []
    with served("--text-chars", "10000") as (url, process):
        before = process.log.read_text()
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config(examples, coverage))
        for event in from_schema(schema).execute():
            assert not isinstance(event, events.NonFatalError | events.FatalError), event
            if isinstance(event, events.ScenarioFinished):
                seen.update(sent.response.status_code for sent in event.recorder.interactions.values())
                failed += failures(event.recorder)
        logged = process.log.read_text(errors="replace").removeprefix(before).splitlines()
    print(
        f"\nschemathesis: {seen.total()} requests to {len(schema)} operations: {dict(sorted(seen.items()))}"
    )
    assert not failed, "\n\n".join(failed)
    assert [line for line in logged if not _LINE.fullmatch(line)] == []
    assert {200, 404, 422} <= set(seen)
