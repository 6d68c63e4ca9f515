import contextlib
import shutil

import pytest

from tests.faults.test_faults import served
from tests.real.conftest import Running

CHROMIUM = shutil.which("chromium")
# Chromium must not contact any server by itself; --no-sandbox because tests may run as root in a container.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class PageLog:
    """Requests, errors, dialogs and policy violations of a page."""

    def __init__(self, context, origin):
        self.origin, self.requests, self.errors, self.dialogs = origin, [], [], []
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        context.on("console", self._console)
        context.on("dialog", self._dialog)
        # Logs every policy violation on the console, even if the page would swallow it.
        context.add_init_script(
            "addEventListener('securitypolicyviolation', (event) => console.error(event.violatedDirective))"
        )

    def _console(self, message):
        # A rejected request also logs an error; tests check what the page makes of it.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.errors.append(message.text)

    def _dialog(self, dialog):
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def assert_clean(self):
        elsewhere = [url for url in self.requests if not url.startswith((self.origin + "/", "blob:"))]
        assert elsewhere == []
        assert self.errors == []
        assert self.dialogs == []


@pytest.fixture(scope="module")
def chromium():
    """A browser for the tests of one module; closed before async tests, whose event loop it would block."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """Opens the explorer of a server; at the end of the test, checks the log of every page."""
    with contextlib.ExitStack() as stack:

        def _visit(url, path="", **options):
            context = chromium.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
            stack.callback(context.close)
            log = PageLog(context, url)
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.goto(f"{url}/{path}")
            stack.callback(log.assert_clean)
            return page

        yield _visit


@pytest.fixture(scope="module")
def start_server(tmp_path_factory):
    """Starts `grm serve` processes, each with its own audit trail."""
    with contextlib.ExitStack() as stack:

        def _start_server(*flags, **env):
            folder = tmp_path_factory.mktemp("trail")
            trail = {
                "GRM_AUDIT_URL": f"sqlite:///{folder}/audit.db",
                "GRM_AUDIT_KEY_FILE": f"{folder}/audit.key",
            }
            server = Running(*flags, **(trail | env))
            stack.callback(server.stop)
            return server.url

        yield _start_server


@pytest.fixture(scope="module")
def url(start_server):
    """A server with the scripted engine."""
    return start_server("--engine", "scripted")


@pytest.fixture(scope="module")
def faulty():
    """A server whose engine fails on command (tests/faults/server.py)."""
    with served() as (url, _):
        yield url
