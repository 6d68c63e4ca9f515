"""API keys: the file, the CLI, and the check at start."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor

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
        (f"keys: [{{name: a, sha256: {64 * 'Z'}}}]", "keys.0.sha256"),
        (f"keys: [{{name: a, sha256: {64 * 'a'}}}, {{name: b, sha256: {64 * 'a'}}}]", "the same key"),
        ("", "keys.yaml:1"),
        ("keys:\n  - name: a\n    weight: 0\n    sha256: " + 64 * "0", r"keys\.yaml:3: keys\.0\.weight"),
        ("- nonsense", "keys.yaml"),
    ],
)
def test_error_names_the_file_and_line(tmp_path, text, message):
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(CatalogError, match=message):
        keys.load(path)


def test_no_key_is_lost_between_writers(tmp_path):
    path = tmp_path / "keys.yaml"
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda i: keys.add(path, f"n{i}"), range(8)))
    stored = keys.load(path)
    assert {stored.caller(key).name for key in added} == {f"n{i}" for i in range(8)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: keys.remove(path, f"n{i}") if i < 4 else keys.add(path, f"m{i}"), range(8)))
    assert {key.name for key in keys.load(path).keys} == {f"{c}{i}" for c in "nm" for i in range(4, 8)}
    assert {each.name for each in tmp_path.iterdir()} <= {"keys.yaml", ".keys.yaml.lock"}


@pytest.mark.parametrize("planted", ["file", "link"])
def test_planted_partial_file_is_not_used(tmp_path, planted):
    path, partial, victim = (tmp_path / name for name in ("keys.yaml", ".keys.yaml.partial", "victim"))
    victim.write_text("precious")
    victim.chmod(0o666)
    partial.symlink_to(victim) if planted == "link" else partial.hardlink_to(victim)
    keys.add(path, "a")
    assert victim.read_text() == "precious"
    assert not path.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_empty_file_has_no_keys(tmp_path):
    (tmp_path / "keys.yaml").touch()
    key = keys.add(tmp_path / "keys.yaml", "a")
    assert keys.load(tmp_path / "keys.yaml").caller(key).name == "a"


def test_file_of_a_killed_writer_is_replaced(tmp_path):
    path, partial = tmp_path / "keys.yaml", tmp_path / ".keys.yaml.partial"
    keys.add(path, "a")
    partial.write_text("keys: [{name: a, sha2")
    keys.add(path, "b")
    assert [key.name for key in keys.load(path).keys] == ["a", "b"]
    assert not partial.exists()


def test_symbolic_link_is_not_written(tmp_path):
    (tmp_path / "keys.yaml").symlink_to(tmp_path / "victim")
    with pytest.raises(CatalogError, match="symbolic link"):
        keys.add(tmp_path / "keys.yaml", "a")
    assert not (tmp_path / "victim").exists()


def test_failed_write_keeps_the_file(tmp_path, monkeypatch):
    path = tmp_path / "keys.yaml"
    keys.add(path, "a")
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(CatalogError, match="No space left"):
        keys.add(path, "b")
    assert path.read_bytes() == before
    assert {each.name for each in tmp_path.iterdir()} <= {"keys.yaml", ".keys.yaml.lock"}


@pytest.mark.parametrize("weight", [float("inf"), float("nan"), 0.0, -1.0, 1e9])
def test_odd_weights_are_refused(tmp_path, weight):
    with pytest.raises(CatalogError, match="weight"):
        keys.add(tmp_path / "keys.yaml", "a", weight)
    assert not (tmp_path / "keys.yaml").exists()


@pytest.mark.parametrize("name", ["", "a" * 65, "x\n\x1b[31mFAKE", "a\tb", "\u202ea", "\x9b1m"])
def test_odd_names_are_refused(tmp_path, name):
    with pytest.raises(CatalogError, match="name"):
        keys.add(tmp_path / "keys.yaml", name)
    (tmp_path / "keys.yaml").write_text(json.dumps({"keys": [{"name": name, "sha256": "0" * 64}]}))
    with pytest.raises(CatalogError, match=r"name|control"):
        keys.load(tmp_path / "keys.yaml")


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
