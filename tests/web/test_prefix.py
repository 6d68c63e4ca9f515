"""The pages of a server behind a proxy that strips a prefix from the path, as an Ingress does."""

import json
import re
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urljoin

import pytest
from playwright.sync_api import expect

PREFIX = "/grm"


class _Proxy(BaseHTTPRequestHandler):
    """Forwards what is below the prefix to `upstream`, and knows nothing else."""

    upstream = ""

    def do_GET(self):
        if not self.path.startswith(f"{PREFIX}/"):
            return self._reply(404, "text/plain", b"not below the prefix")
        size = int(self.headers.get("Content-Length", 0))
        request = urllib.request.Request(
            self.upstream + self.path.removeprefix(PREFIX),
            self.rfile.read(size) or None,
            {"Content-Type": self.headers.get("Content-Type", "text/plain")},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                self._reply(answer.status, answer.headers["Content-Type"], answer.read())
        except urllib.error.HTTPError as problem:
            with problem:
                self._reply(problem.code, problem.headers["Content-Type"], problem.read())

    def do_POST(self):
        self.do_GET()

    def _reply(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Log nothing."""


@pytest.fixture(scope="module")
def proxied(url):
    """The address of the service behind the proxy, without a slash at its end."""
    handler = type("Proxy", (_Proxy,), {"upstream": url})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_port}{PREFIX}"
        proxy.shutdown()


def get(address):
    with urllib.request.urlopen(address, timeout=60) as reply:
        return reply.read()


@pytest.mark.parametrize("page", ["docs", "docs/", "redoc", "redoc/"])
def test_docs_load_behind_a_prefix(proxied, page):
    html = get(f"{proxied}/{page}").decode()
    addresses = re.findall(r"""(?:src|href|spec-url|url)(?:=|: )["']([^"']+)["']""", html)
    assert len(addresses) >= 3
    for address in addresses:
        loaded = get(urljoin(f"{proxied}/{page}", address))
        assert loaded
        assert b"cdn." not in loaded


def test_requests_go_below_the_prefix(proxied):
    document = f"{proxied}/openapi.json"
    servers = json.loads(get(document))["servers"]
    assert [urljoin(document, server["url"]) for server in servers] == [f"{proxied}/"]


def test_swagger_in_a_browser(visit, proxied):
    page = visit(proxied, "docs")
    page.get_by_text("/livez").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table .response").first).to_contain_text("alive")
    expect(page.locator(".request-url").first).to_contain_text(f"{proxied}/livez")


def test_redoc_in_a_browser(visit, proxied):
    page = visit(proxied, "redoc")
    expect(page.get_by_role("heading", name="grm-service").first).to_be_visible(timeout=60_000)
    expect(page.get_by_text("/v1/rewards", exact=True).first).to_be_attached()


def test_explorer_in_a_browser(visit, proxied):
    page = visit(proxied)
    page.get_by_role("button", name="Judge", exact=True).click()
    expect(page.locator(".summary")).to_be_visible()
