"""The explorer's files: open to all, under a strict policy, nothing beside them."""

import re
from pathlib import Path

import pytest

import grm_service
from grm_service.serving.keys import add, load

pytestmark = pytest.mark.anyio
WEB = Path(grm_service.__file__).parent / "web"
FILES = sorted(path.relative_to(WEB.parent).as_posix() for path in WEB.rglob("*.*"))


async def test_every_file_is_served_without_a_key_and_under_the_policy(serve, tmp_path):
    add(tmp_path / "keys.yaml", "ann")
    async with serve(keys=load(tmp_path / "keys.yaml")) as client:
        for path in ["", *FILES]:
            answer = await client.get(f"/{path}")
            assert answer.status_code == 200, path
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            policy = dict(
                part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
            )
            assert policy["default-src"] == "'self'"
            assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
            assert not any("unsafe" in sources for sources in policy.values())
        assert (await client.get("/v1/verdicts")).status_code == 401


async def test_scripts_are_scripts_whatever_the_machine_calls_them(serve):
    async with serve() as client:
        types = {path: (await client.get(f"/{path}")).headers["content-type"] for path in FILES}
    assert types["web/app.js"] == "text/javascript; charset=utf-8"
    assert {kind for path, kind in types.items() if path.endswith(".css")} == {"text/css; charset=utf-8"}


async def test_an_unchanged_file_is_not_sent_again(serve):
    async with serve() as client:
        tag = (await client.get("/web/app.js")).headers["etag"]
        again = await client.get("/web/app.js", headers={"If-None-Match": tag})
    assert again.status_code == 304
    assert again.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path", ["/web/", "/web/none.js", "/web/%2e%2e/service.py", "/web/..%2fservice.py", "/web/%00"]
)
async def test_there_is_nothing_beside_the_files(serve, path):
    async with serve() as client:
        answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_no_file_names_another_server_or_makes_html():
    for path in FILES:
        text = (WEB.parent / path).read_text(encoding="utf-8")
        assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {"http://www.w3.org/2000/svg"}, path
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function", text
        )
        assert len(text.splitlines()) < 300
