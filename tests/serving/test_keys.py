"""API keys: the file, the CLI, and the check at start."""

import stat

import pytest
from typer.testing import CliRunner

from grm_service.callers import Caller
from grm_service.cli import app
from grm_service.errors import CatalogError
from grm_service.serving import keys


def test_only_hashes_are_stored(tmp_path):
    path = tmp_path / "keys.yaml"
    first, second = keys.add(path, "run-1", 2.0, 16), keys.add(path, "run-2")
    text = path.read_text()
    assert first not in text
    assert second not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    stored_keys = keys.load(path)
    assert stored_keys.caller(first) == Caller("run-1", 2.0, 16)
    assert stored_keys.caller(second) == Caller("run-2")
    assert stored_keys.caller(first + "x") is None
    assert stored_keys.caller("") is None


def test_removed_key_is_unknown(tmp_path):
    path = tmp_path / "keys.yaml"
    key = keys.add(path, "run-1")
    keys.remove(path, "run-1")
    assert keys.load(path).caller(key) is None
    with pytest.raises(CatalogError, match="no key named 'run-1'"):
        keys.remove(path, "run-1")


def test_names_are_unique(tmp_path):
    keys.add(tmp_path / "keys.yaml", "run-1")
    with pytest.raises(CatalogError, match="has a key named 'run-1'"):
        keys.add(tmp_path / "keys.yaml", "run-1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keys: [{name: a, sha256: short}]", "keys.0.sha256"),
        ("keys: [{name: a, key: grm_plain}]", "keys.0"),
        ("keys:\n  - name: a\n    weight: 0\n    sha256: " + 64 * "0", r"keys\.yaml:3: keys\.0\.weight"),
        ("- nonsense", "keys.yaml"),
    ],
)
def test_error_names_the_file_and_line(tmp_path, text, message):
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(CatalogError, match=message):
        keys.load(path)


def test_cli_adds_lists_and_removes(tmp_path):
    def grm(*args, **env):
        return CliRunner().invoke(app, ["keys", *args], env={"GRM_KEYS_FILE": str(tmp_path / "k.yaml")} | env)

    key = grm("add", "run-1", "--weight", "2").stdout.strip()
    assert keys.load(tmp_path / "k.yaml").caller(key) == Caller("run-1", 2.0)
    assert "run-1" in grm("list").stdout
    assert key not in grm("list").stdout
    assert grm("remove", "run-1").exit_code == 0
    assert grm("remove", "run-1").exit_code == 1
    assert "GRM_KEYS_FILE" in grm("list", GRM_KEYS_FILE="").stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "judge.example", "192.0.2.1"])
def test_public_address_requires_keys(host):
    result = CliRunner().invoke(app, ["serve", "--engine", "scripted", "--host", host, "--port", "0"])
    assert result.exit_code == 1
    assert "grm keys add" in result.stderr
