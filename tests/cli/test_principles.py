import re

import pytest
from typer.testing import CliRunner

from grm_service.cli import app
from grm_service.profiles.catalog import load_principles, principle_files

MINE = """\
name: mine
description: A set of my own.
principles:
  - text: "Every name is spelt as in the question."
    weight: 0.5
  - weight: 0.3
    text: "The story is engaging."
  - {text: "The story is long and mentions the dog.", weight: 0.2}
"""


def run(*args, env=None):
    return CliRunner().invoke(app, ["principles", *args], env={"COLUMNS": "100", **(env or {})})


@pytest.fixture
def mine(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(MINE)
    return file


def test_builtin_sets_have_no_findings():
    result = run("lint")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert result.stderr == "no findings in 7 principle sets\n"


@pytest.mark.parametrize("name", ["code", "mine"])
def test_show_prints_every_principle(mine, name):
    result = run("show", str(mine) if name == "mine" else name)
    assert result.exit_code == 0, result.output
    text = " ".join(re.findall(r"[\w.'-]+", result.stdout))
    named, _ = load_principles(mine if name == "mine" else principle_files(None)[name])
    for principle in named.principles:
        assert " ".join(re.findall(r"[\w.'-]+", principle.text)) in text
        assert f"{principle.weight:g}" in text


def test_unknown_set_is_named():
    result = run("show", "nope")
    assert result.exit_code == 1
    assert "unknown principle set 'nope'" in result.stderr


def test_findings_name_line_and_rule(mine):
    result = run("lint", "code", str(mine))
    assert result.exit_code == 1
    lines = [line.removeprefix(f"{mine}:") for line in result.stdout.splitlines()]
    assert [line.split(": ")[:3] for line in lines] == [
        ["6", "mine", "subjective"],
        ["8", "mine", "compound"],
        ["8", "mine", "style"],
        ["8", "mine", "gameable"],
    ]
    assert lines[0].endswith('readers differ on "engaging": state something that can be checked')
    assert result.stderr == "error: 4 findings in 2 principle sets\n"


def test_own_sets_override_builtin_ones(mine):
    mine.with_name("code.yaml").write_text(MINE.replace("mine", "code").replace("engaging", "true"))
    own = {"GRM_PRINCIPLES_DIR": str(mine.parent)}
    assert {line.split(":")[0] for line in run("lint", env=own).stdout.splitlines()} == {
        str(mine), str(mine.with_name("code.yaml")),
    }  # fmt: skip
    assert run("lint", "honesty", env=own).exit_code == 0
    assert run("lint", "mine", env=own).exit_code == 1
    listed = run("list", env=own).stdout
    assert "honesty" in listed
    assert listed.count("A set of my own.") == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINE.replace("0.3", "3"), "mine.yaml:6: principles.1.weight"),
        (MINE + "more: 1\n", "more: unknown field"),
    ],
)
def test_invalid_file_is_named_with_line(mine, text, message):
    mine.write_text(text)
    result = run("lint", str(mine))
    assert result.exit_code == 1
    assert message in result.stderr


def test_unknown_name_lists_known_ones(mine):
    result = run("lint", "cod")
    assert result.exit_code == 1
    assert "unknown principle set 'cod'; known: code, constitution" in result.stderr
    assert "cannot be read" in run("lint", str(mine.with_name("no.yaml"))).stderr
