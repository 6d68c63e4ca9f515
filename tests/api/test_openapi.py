"""Health and catalog routes, the documentation pages, and the OpenAPI document."""

import json
import re
from pathlib import Path
from urllib.parse import urljoin

import pytest

from grm_service.api import examples
from grm_service.api.openapi import document
from grm_service.serving.keys import add, load

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


def test_every_operation_is_described():
    for path in json.loads(document())["paths"].values():
        for operation in path.values():
            assert operation["description"]
            assert operation["tags"]
