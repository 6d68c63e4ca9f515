"""Responses match the OpenAPI document, for the valid and invalid requests that schemathesis generates."""

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
# The only lines that requests may log; none has room for a caller's text.
_LOG_LINE = re.compile(
    r"INFO:grm_service\.api\.telemetry:[A-Z]+ (unknown|/[a-z0-9_/{}-]*) \d{3} \d+\.\d{3} s|"
    r"WARNING:uvicorn\.error:Invalid HTTP request received\.|DEBUG:asyncio:Using selector: \w+"
)
_EXPECTED_5XX = {"all_unreadable", "principles_unreadable", "deadline_exceeded", "siblings_missing"}


@schemathesis.serializer("application/x-ndjson")
def line(context, value):
    return json.dumps(value).encode()


@schemathesis.hook
def filter_query(context, query):
    """Leave out objects, and lists of less than two values: in a URL they are the same as a text."""
    values = (query or {}).values()
    return not any(
        isinstance(value, dict) or (isinstance(value, list) and len(value) < 2) for value in values
    )


@schemathesis.hook
def before_call(context, case, kwargs):
    """Shorten the wait for siblings, since none will arrive."""
    if "window_s" in case.operation.query:
        window_s = case.query.get("window_s")
        with contextlib.suppress(ValueError):
            if window_s is None or 0 < float(str(window_s)) <= 3600:
                case.query["window_s"] = 0.01


@schemathesis.check
def errors_are_problems(context, response, case):
    assert "Traceback" not in response.text
    if response.status_code >= 400:
        assert response.headers["content-type"] == ["application/problem+json"]
        assert response.status_code < 500 or response.json()["code"] in _EXPECTED_5XX


def config(examples, coverage):
    return schemathesis.Config.from_dict(
        {
            "generation": {"max-examples": examples},
            "phases": {"coverage": {"enabled": coverage}},
            "checks": {
                # Rules that the schema cannot express (a query or messages, no NUL) give a 422.
                "positive_data_acceptance": {"enabled": False},
                "not_a_server_error": {"expected-statuses": ["2xx", "4xx", "502", "503", "504"]},
            },
            # An invalid item of a batch fails alone, within a 200 response.
            "operations": [
                {"include-path": batch.PATH, "checks": {"negative_data_rejection": {"enabled": False}}}
            ],
        }
    )


def failures(recorder):
    """Yield each failed check of a scenario with the request that reproduces it."""
    for checks in recorder.checks.values():
        for check in checks:
            if check.failure_info is not None:
                yield f"{recorder.label}: {check.failure_info.failure}\n{check.failure_info.code_sample}"


@pytest.mark.parametrize(
    ("examples", "coverage"),
    [(4, False), pytest.param(100, True, marks=pytest.mark.slow)],
    ids=["short", "long"],
)
def test_responses_match_the_document(examples, coverage):
    statuses, failed = Counter(), []
    with served("--text-chars", "10000") as (url, process):
        before = process.log.read_text()
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config(examples, coverage))
        for event in from_schema(schema).execute():
            assert not isinstance(event, events.NonFatalError | events.FatalError), event
            if isinstance(event, events.ScenarioFinished):
                interactions = event.recorder.interactions.values()
                statuses.update(interaction.response.status_code for interaction in interactions)
                failed += failures(event.recorder)
        logged = process.log.read_text(errors="replace").removeprefix(before).splitlines()
    print(
        f"\nschemathesis: {statuses.total()} requests to {len(schema)} operations: "
        f"{dict(sorted(statuses.items()))}"
    )
    assert not failed, "\n\n".join(failed)
    assert [line for line in logged if not _LOG_LINE.fullmatch(line)] == []
    assert {200, 422} <= set(statuses)
