"""Health and catalog routes, the documentation pages, and the OpenAPI document."""

import json
import re
from pathlib import Path
from urllib.parse import urljoin

import pytest

from grm_service.api import examples
from grm_service.api.openapi import document
from grm_service.serving.keys import add, load
from tests.api import example_replies
from tests.api.test_failures import documented_codes

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]


async def test_health_routes(serve):
    async with serve() as client:
        assert (await client.get("/livez")).json() == {"status": "alive"}
        ready = (await client.get("/readyz")).json()
    assert ready["status"] == "ready"
    assert ready["engine"] == "scripted"
    assert ready["chosen"] == "configured"


async def test_catalog_routes(serve):
    async with serve() as client:
        profiles = {p["name"]: p for p in (await client.get("/v1/profiles")).json()}
        sets = (await client.get("/v1/principle-sets")).json()
    assert profiles["smollm2-judge"]["default"] is True
    assert profiles["generic-judge"]["served"] is True
    assert profiles["deepseek-grm-27b"]["served"] is False
    assert len(sets) >= 7
    assert all(s["principles"] for s in sets)


@pytest.mark.parametrize("page", ["/docs", "/docs/", "/redoc", "/redoc/"])
async def test_docs_need_no_internet(serve, page):
    async with serve() as client:
        html = (await client.get(page)).text
        addresses = re.findall(r"""(?:src|href|spec-url|url)(?:=|: )["']([^"']+)["']""", html)
        assert len(addresses) >= 3
        for address in addresses:
            assert address.startswith("."), f"{address} is not relative"
            assert (await client.get(urljoin(page, address))).status_code == 200


async def test_docs_with_a_key_in_the_path(serve, tmp_path):
    secret = add(tmp_path / "keys.yaml", "trainer")
    async with serve(keys=load(tmp_path / "keys.yaml")) as client:
        page = f"/t/{secret}/docs"
        assert "./openapi.json" in (await client.get(page)).text
        document = (await client.get(urljoin(page, "./openapi.json"))).json()
    assert document["servers"] == [{"url": "."}]


@pytest.mark.parametrize(
    ("path", "example"),
    [("/v1/rewards", e) for e in examples.REWARDS.values()]
    + [("/v1/principles", e) for e in examples.PRINCIPLES.values()]
    + [("/v1/improve", e) for e in examples.IMPROVE.values()],
    ids=lambda value: value["summary"] if isinstance(value, dict) else value,
)
async def test_every_example_runs(serve, path, example):
    async with serve() as client:
        reply = await client.post(path, json=example["value"])
    assert reply.status_code == 200, reply.text


def test_openapi_json_is_current():
    assert (ROOT / "docs/openapi.json").read_text(encoding="utf-8") == document(), "run make docs"


def operations():
    """Yield the name of each operation in the document, and the operation."""
    for path, methods in json.loads(document())["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_operation_is_described():
    for name, operation in operations():
        assert operation["tags"], name
        for text in (operation["summary"], operation["description"]):
            as_name = text.lower().replace(" ", "_")
            assert " " in text, f"{name}: {text}"
            assert not operation["operationId"].startswith(as_name), f"{name}: {text} is the function's name"


def properties(value, where=()):
    """Yield the place of each property and parameter in a document, and its schema or itself."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return
    if "properties" in value and value.get("type") == "object":
        yield from ((f"{'.'.join(map(str, where))}.{name}", of) for name, of in value["properties"].items())
    if "in" in value and "schema" in value:
        yield f"{'.'.join(map(str, where))} ({value['name']})", value
    for name, inner in value.items():
        yield from properties(inner, (*where, name))


def test_every_field_and_parameter_is_described():
    fields = dict(properties(json.loads(document())))
    assert len(fields) > 400
    assert [name for name, of in fields.items() if not of.get("description", "").endswith(".")] == []


def examples_of(operation):
    """Yield the status and the example of each reply of an operation, None without an example."""
    for status, reply in operation["responses"].items():
        of_kinds = [kind.get("example") for kind in reply.get("content", {}).values()]
        yield int(status), next((example for example in of_kinds if example is not None), None)


def test_every_reply_has_an_example():
    codes = documented_codes()
    for name, operation in operations():
        for status, example in examples_of(operation):
            assert example is not None, f"{name}: {status}; python -m tests.api.example_replies records it"
            if status >= 400:
                assert example["status"] == status
                assert codes[example["code"]][:2] == [str(status), "yes" if example["retryable"] else "no"]


def shape(value):
    """Return a value with types in place of its texts and numbers, and a list's first item for all."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return [shape(inner) for inner in value[:1]] if isinstance(value, list) else type(value)


def test_example_replies_are_current():
    recorded = json.loads(example_replies.RECORDED.read_text(encoding="utf-8"))
    assert shape(example_replies.record()) == shape(recorded), "run python -m tests.api.example_replies"
