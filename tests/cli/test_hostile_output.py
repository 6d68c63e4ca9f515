"""Texts of others reach a terminal as text: no control characters, no markup, no links."""

import json
import logging
import re
from dataclasses import replace

import pytest
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from grm_service.cli import app
from grm_service.cli.console import SafeConsole
from grm_service.log_lines import SAFE_LINES
from grm_service.printable import is_printable, printable, printable_json, printable_line
from grm_service.probes.cases import probes

# OSC 52 (clipboard), SGR, C1 CSI, bidirectional override, carriage return, line separator, tag, zero width.
HOSTILE = "\x1b]52;c;cm0=\x07\x1b[8m\x9b31m\u202eevil\r\u2028\U000e0041\u200b"
MARKUP = "[red]x[/red][link=http://e]y[/link]:smile:"
TEXT = HOSTILE + MARKUP
PRINCIPLES = (
    f"name: mine\ndescription: {json.dumps(MARKUP)}\nprinciples:\n- {{text: Is it good?, weight: 0.5}}\n"
)


def is_safe(output):
    return printable(output) == output


def run(*args, stdin=None, code=0, **env):
    """Run a command and return its output, after checking that a terminal may show it."""
    result = CliRunner().invoke(app, [*args], input=stdin, env={"COLUMNS": "200", **env})
    assert result.exit_code == code, result.output
    assert is_safe(result.stdout), ascii(result.stdout)
    assert is_safe(result.stderr), ascii(result.stderr)
    return result.stdout + result.stderr


def test_json_keeps_its_value():
    text = json.dumps({HOSTILE: "\x7f\ud800"}, ensure_ascii=False)
    assert json.loads(printable_json(text)) == json.loads(text)
    assert is_safe(printable_json(text))


def test_ordinary_text_is_unchanged():
    text = "naïve 中文 نص 👩\u200d💻 می\u200cخواهم\ttab\n"
    assert printable(text) == text
    assert not is_printable(text)
    assert printable_line("a\r\nb") == "a\\nb"


def test_console_escapes_every_renderable(capsys):
    table = Table(TEXT, title=TEXT)
    table.add_row(TEXT)
    table.add_row(Text(TEXT))
    for each in (TEXT, Text(TEXT), table):
        SafeConsole().print(each)
    output = capsys.readouterr().out
    assert is_safe(output)
    assert "[red]x[/red]" in output


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_judge_and_audit(tmp_path, as_json):
    request = {"query": TEXT, "responses": [f"good {TEXT}", "b"], "k": 2}
    env = {"GRM_AUDIT_URL": f"sqlite:///{tmp_path}/a.db", "GRM_AUDIT_KEY_FILE": str(tmp_path / "a.key")}
    output = run("judge", "--engine", "scripted", *as_json, stdin=json.dumps(request), **env)
    if not as_json:
        assert "\\x1b]52" in output
        assert "[red]x[/red]" in output
    (line,) = run("audit", "export", **env).splitlines()
    assert MARKUP in line
    assert "\\u009b31m" in line
    run("audit", "preferences", **env)
    run("audit", "verify", **env)
    run("audit", "replay", TEXT, code=1, **env)
    run("audit", "verify", "--head", TEXT, code=1, **env)


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_improve(as_json):
    request = {"query": TEXT, "draft": TEXT, "k": 2, "rounds": 1}
    run("improve", "--engine", "scripted", *as_json, stdin=json.dumps(request))


def test_eval_and_compare(tmp_path):
    rows = [
        {"prompt": f"{i}{TEXT}", "chosen": f"a{TEXT}", "rejected": "b", "source": TEXT, "id": f"{i}{TEXT}"}
        for i in range(4)
    ]
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    runs = [str(tmp_path / f"{name}{MARKUP.replace('/', '')}\x1b[8m") for name in "ab"]
    for seed, out in enumerate(runs):
        run("eval", str(data), "--out", out, "--engine", "scripted", "--k", "1", "--seed", str(seed))
    run("eval", "compare", *runs)
    run("eval", "check", f"{runs[0]}/report.json", f"{runs[1]}/report.json")


def test_pairs_and_trajectories(tmp_path):
    data = tmp_path / f"{MARKUP.replace('/', '')}\x1b[8m.jsonl"
    row = {"prompt": TEXT, "chosen": f"a{TEXT}", "rejected": "b", "source": TEXT, "id": TEXT}
    data.write_text(json.dumps(row))
    run("pairs", str(data), "--out", f"{data}.pairs", "--engine", "scripted", "--n", "2", "--k", "1")
    run("train", "sample", str(data), "--out", f"{data}.sampled", "--engine", "scripted", "--samples", "1")
    run("train", "forms", str(data), "--out", f"{data}.forms")


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_probes(as_json, monkeypatch):
    hostile = replace(probes()[0], name=MARKUP, what=TEXT)
    monkeypatch.setattr("grm_service.probes.cases.probes", lambda _: (hostile,))
    assert "evil" in run("probe", "--engine", "scripted", "--k", "1", *as_json)


def test_catalog_and_keys(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(PRINCIPLES)
    env = {"GRM_PRINCIPLES_DIR": str(tmp_path), "GRM_KEYS_FILE": str(tmp_path / "keys.yaml")}
    assert MARKUP in run("principles", "list", **env)
    CliRunner().invoke(app, ["principles", "lint", str(file)])
    run("keys", "add", MARKUP, **env)
    assert MARKUP in run("keys", "list", **env)
    run("keys", "add", HOSTILE, code=1, **env)
    run("keys", "remove", HOSTILE, code=1, **env)
    file.write_text(PRINCIPLES.replace("good", "\\x1b").replace("mine", TEXT.replace("\r", "")))
    run("principles", "list", code=1, **env)


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["judge", f"missing{TEXT}"], 1),
        (["judge", f"--{TEXT}"], 2),
        (["judge", "--k", TEXT], 2),
        (["keys", TEXT], 2),
        (["serve", "--engine", "scripted", "--profile", TEXT], 1),
        (["principles", "lint", TEXT], 1),
        (["models", "fetch", TEXT], 1),
        (["eval", f"missing{TEXT}", "--out", "out", "--engine", "scripted"], 1),
        (["eval", "compare", f"a{TEXT}", f"b{TEXT}"], 1),
        (["pairs", f"missing{TEXT}", "--out", "out", "--engine", "scripted"], 1),
        (["train", "rft", f"missing{TEXT}", "--out", "out"], 1),
        ([TEXT], 2),
    ],
    ids=str,
)
def test_errors(args, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(*args, code=code)


def test_invalid_fields_of_a_request():
    run(
        "judge", "--engine", "scripted", stdin=json.dumps({TEXT: 1, "query": "q", "responses": ["a"]}), code=1
    )


def test_traceback_of_a_bug(monkeypatch):
    def fail(_):
        raise RuntimeError(TEXT)

    monkeypatch.setattr("grm_service.cli.serve.open_catalog", fail)
    assert "RuntimeError" in run("profiles", code=1)


def test_log_lines_are_single_lines():
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", (f"a\nINFO forged{TEXT}",), None)
    assert re.fullmatch(r"a\\nINFO forged\\x1b.*", logged(record))
    assert is_printable(logged(record))
    try:
        raise RuntimeError(TEXT)
    except RuntimeError as bug:
        record.exc_info = (type(bug), bug, bug.__traceback__)
    assert is_safe(logged(record))


def logged(record):
    SAFE_LINES.filter(record)
    return logging.Formatter("%(message)s").format(record)
