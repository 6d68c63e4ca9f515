"""The links, commands and code in the documentation work."""

import re
import shlex
from pathlib import Path

import httpx
import pytest
import typer.main

from grm_service.cli import app
from grm_service.settings import Settings
from tests.faults.test_faults import served

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("models/*/*.md")]
LOADS_A_MODEL = 'engine="auto"'
HERE = "http://127.0.0.1:8000"
COMMAND = re.compile(r"^(?: {4})?(?:[\w$]+=\S+ )*(grm .*?)(?:\s+#.*)?$", re.MULTILINE)


def snippets(pattern, flags=0):
    """Return every match in every page as a test parameter; continued lines are joined."""
    texts = {str(page.relative_to(ROOT)): page.read_text().replace("\\\n", " ") for page in PAGES}
    return [
        pytest.param(
            match[1],
            id=f"{name}:{text[: match.start()].count(chr(10)) + 1}",
            marks=pytest.mark.slow if LOADS_A_MODEL in match[1] else (),
        )
        for name, text in texts.items()
        for match in re.finditer(pattern, text, flags)
    ]


@pytest.fixture(scope="module")
def service():
    with served() as (url, _):
        yield url


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_file_links(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    files = [link.partition("#")[0] for link in links if not link.startswith(("http", "#", "mailto:"))]
    assert [file for file in files if not (page.parent / file).exists()] == []


@pytest.mark.parametrize("line", snippets(r"^ {4}curl (.+)$", re.MULTILINE))
def test_curl_commands(line, service):
    words = shlex.split(line)
    url = next(word for word in words if word.startswith("http"))
    body = words[words.index("-d") + 1]
    replied = httpx.post(
        url.replace(HERE, service), content=body, headers={"Content-Type": "application/json"}
    )
    assert replied.status_code == 200, replied.text
    assert all(reward is not None for reward in replied.json()["rewards"])


@pytest.mark.parametrize("code", snippets(r"```python\n(.*?)```", re.DOTALL))
def test_python_snippets(code, service, monkeypatch):
    monkeypatch.setenv("GRM_ENGINE", "scripted")  # for Judge.load() without an engine
    names = {}
    exec(compile(code.replace(HERE, service), "docs", "exec"), names)
    assert names["verdict"].rewards is not None


@pytest.mark.parametrize("line", snippets(COMMAND.pattern, re.MULTILINE))
def test_grm_commands(line, monkeypatch):
    command = typer.main.get_command(app)
    calls = []
    for leaf in leaves(command):
        monkeypatch.setattr(leaf, "callback", lambda **options: calls.append(options))
    command.main(shlex.split(line)[1:], standalone_mode=False)
    assert len(calls) == 1


def test_operation_lists_all_settings():
    table = (ROOT / "docs/operation.md").read_text().partition("## Settings")[2]
    listed = set(re.findall(r"`GRM_(\w+)`", table))
    assert listed == {name.upper() for name in Settings.model_fields}


def leaves(command):
    for each in command.commands.values():
        if hasattr(each, "commands"):
            yield from leaves(each)
        else:
            yield each
