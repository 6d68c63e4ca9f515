"""Mutated bodies of all routes, in process; `python -m tests.faults.fuzzed_bodies` sends many to a server."""

import pytest

from tests.faults.fuzzed_bodies import VALID, send, to_url

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("count", [400, pytest.param(20_000, marks=pytest.mark.slow)])
async def test_no_body_breaks_a_route(serve, count):
    async with serve() as client:
        statuses, broken = await send(client, 1, count)
    assert not broken, "\n".join(broken)
    assert {path for path, _ in statuses} == set(VALID)
    assert {200, 422, 400} <= {status for _, status in statuses}


async def test_valid_bodies_are_valid(serve):
    async with serve() as client:
        for path, body in VALID.items():
            reply = await client.post(to_url(path), json=body)
            assert reply.status_code == (404 if "reviews" in path else 200), (path, reply.text)


async def test_every_post_route_is_fuzzed(serve):
    async with serve() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    with_body = {path for path, operations in paths.items() if "requestBody" in operations.get("post", {})}
    aliases = {"/v1/rerank", "/v2/rerank", "/v1/score"}
    assert with_body - aliases == {path.replace("/v/", "/{id}/") for path in VALID}
