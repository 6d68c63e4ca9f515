import contextlib
import shutil

import pytest

from tests.real.conftest import Running

CHROMIUM = shutil.which("chromium")
# Chromium itself must ask nobody either; --no-sandbox because tests may run as root, in a container.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Seen:
    """What a page did that it should not have: other origins, errors, dialogs, broken policy."""

    def __init__(self, context, origin):
        self.origin, self.requests, self.errors, self.dialogs = origin, [], [], []
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        context.on("console", self._console)
        context.on("dialog", self._dialog)
        # A violation is also an error on the console; so it is told even where the page would swallow it.
        context.add_init_script(
            "addEventListener('securitypolicyviolation', (it) => console.error(it.violatedDirective))"
        )

    def _console(self, message):
        # A refused request is a line on the console too; the tests look at what the page makes of it.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.errors.append(message.text)

    def _dialog(self, dialog):
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def nothing_bad(self):
        elsewhere = [url for url in self.requests if not url.startswith((self.origin + "/", "blob:"))]
        assert elsewhere == []
        assert self.errors == []
        assert self.dialogs == []


@pytest.fixture(scope="module")
def chromium():
    """A browser for the tests of a module. Closed before async tests, whose loop Playwright's would bar."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """Opens the explorer of a server; when the test is over, nothing bad may have happened on any page."""
    with contextlib.ExitStack() as closing:

        def _visit(url, path="", **options):
            context = chromium.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
            closing.callback(context.close)
            seen = Seen(context, url)
            page = context.new_page()
            page.set_default_timeout(20_000)
            page.goto(f"{url}/{path}")
            closing.callback(seen.nothing_bad)
            return page

        yield _visit


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """Real `grm serve` processes, each with an audit trail of its own."""
    with contextlib.ExitStack() as stopping:

        def _serving(*flags, **env):
            own = tmp_path_factory.mktemp("trail")
            kept = {"GRM_AUDIT_URL": f"sqlite:///{own}/audit.db", "GRM_AUDIT_KEY_FILE": f"{own}/audit.key"}
            server = Running(*flags, **kept, **env)
            stopping.callback(server.stop)
            return server.url

        yield _serving


@pytest.fixture(scope="module")
def url(serving):
    """A server with the scripted engine."""
    return serving("--engine", "scripted")
