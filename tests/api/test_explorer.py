"""The explorer's files: public, served with a strict content security policy, and no other paths."""

import re
from pathlib import Path

import pytest

import grm_service
from grm_service.serving.keys import add, load

pytestmark = pytest.mark.anyio
WEB = Path(grm_service.__file__).parent / "web"
FILES = sorted(path.relative_to(WEB.parent).as_posix() for path in WEB.rglob("*.*"))


async def test_files_are_public_with_strict_csp(serve, tmp_path):
    add(tmp_path / "keys.yaml", "ann")
    async with serve(keys=load(tmp_path / "keys.yaml")) as client:
        for path in ["", *FILES]:
            reply = await client.get(f"/{path}")
            assert reply.status_code == 200, path
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert reply.headers["referrer-policy"] == "no-referrer"
            policy = dict(part.split(" ", 1) for part in reply.headers["content-security-policy"].split("; "))
            assert policy["default-src"] == "'self'"
            assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
            assert not any("unsafe" in sources for sources in policy.values())
        assert (await client.get("/v1/verdicts")).status_code == 401


async def test_content_types_are_fixed(serve):
    """They do not depend on the MIME types of the host."""
    async with serve() as client:
        types = {path: (await client.get(f"/{path}")).headers["content-type"] for path in FILES}
    assert types["web/app.js"] == "text/javascript; charset=utf-8"
    assert {types[path] for path in FILES if path.endswith(".css")} == {"text/css; charset=utf-8"}


async def test_unchanged_file_is_304(serve):
    async with serve() as client:
        tag = (await client.get("/web/app.js")).headers["etag"]
        repeat = await client.get("/web/app.js", headers={"If-None-Match": tag})
    assert repeat.status_code == 304
    assert repeat.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path", ["/web/", "/web/none.js", "/web/%2e%2e/service.py", "/web/..%2fservice.py", "/web/%00"]
)
async def test_other_paths_are_404(serve, path):
    async with serve() as client:
        reply = await client.get(path)
    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/problem+json"


def test_no_external_urls_or_raw_html():
    for path in FILES:
        text = (WEB.parent / path).read_text(encoding="utf-8")
        assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {"http://www.w3.org/2000/svg"}, path
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function", text
        )
        assert len(text.splitlines()) < 300
