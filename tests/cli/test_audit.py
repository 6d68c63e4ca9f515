import json
import sqlite3

import pytest

from tests.cli.test_cli import PAIR, run


@pytest.fixture
def grm(tmp_path):
    """Return a function that runs a command on an empty trail."""
    trail = {
        "GRM_AUDIT_URL": f"sqlite:///{tmp_path}/audit.db",
        "GRM_AUDIT_KEY_FILE": str(tmp_path / "audit.key"),
        "GRM_ENGINE": "scripted",
    }
    return lambda *args, stdin=None, **env: run(*args, stdin=stdin, env=trail | env)


@pytest.fixture
def judged(grm):
    result = grm("judge", "--json", stdin=json.dumps(PAIR))
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_cli_verdicts_are_recorded(grm, judged):
    result = grm("audit", "export")
    assert result.exit_code == 0, result.output
    (line,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert line["seq"] == 1
    assert line["hash"].startswith("sha256:")
    assert line["body"]["data"]["id"] == judged["id"]
    assert line["body"]["data"]["route"] == "cli"


def test_list_shows_verdicts_newest_first(grm, judged):
    grm("judge", "--json", stdin=json.dumps(PAIR | {"query": "Name\nanother.", "seed": 1}))
    newest, oldest = grm("audit", "list").stdout.splitlines()
    assert judged["id"] in oldest
    assert judged["profile"] in oldest
    assert f"A {judged['rewards'][0]:.2f} B {judged['rewards'][1]:.2f}" in oldest
    assert newest.endswith(r"Name\nanother.")
    assert grm("audit", "list", "--limit", "1").stdout.splitlines() == [newest]
    assert "no verdicts" in grm("audit", "list", "--search", "elephant").stderr


def test_verify_accepts_a_noted_head(grm, judged):
    result = grm("audit", "verify")
    assert result.exit_code == 0, result.output
    head = result.stdout.strip()
    grm("judge", "--json", stdin=json.dumps(PAIR | {"seed": 1}))
    assert grm("audit", "verify", "--head", head).exit_code == 0
    wrong = grm("audit", "verify", "--head", head[:-1] + ("0" if head[-1] != "0" else "1"))
    assert wrong.exit_code == 1
    assert "not the one that was noted" in wrong.stderr
    assert grm("audit", "verify", "--head", "nonsense").exit_code == 1


def test_verify_names_first_invalid_record(grm, judged, tmp_path):
    with sqlite3.connect(tmp_path / "audit.db") as database:
        database.execute("UPDATE records SET body = replace(body, 'prime', 'crime')")
    database.close()
    result = grm("audit", "verify")
    assert result.exit_code == 1
    assert f"record 1 ({judged['id']})" in result.stderr


def test_replay_has_same_rewards(grm, judged):
    result = grm("audit", "replay", judged["id"])
    assert result.exit_code == 0, result.output
    assert "the same plan, texts and rewards" in result.stdout


@pytest.mark.parametrize("mode", ["self", "query", "fixed"])
def test_replay_uses_recorded_principles(grm, mode):
    request = PAIR | {"principles": {"mode": mode, "set": "code"}, "seed": 3}
    verdict = json.loads(grm("judge", "--json", stdin=json.dumps(request)).stdout)
    result = grm("audit", "replay", verdict["id"])
    assert result.exit_code == 0, result.output


def test_replay_shows_differences(grm, judged):
    result = grm("audit", "replay", judged["id"], GRM_SCRIPT="first")
    assert result.exit_code == 1
    assert "model: scripted-content -> scripted-first" in result.stdout
    assert "rewards: " in result.stdout
    assert "plan" not in result.stdout, "orders and seeds are the same"


def test_replay_needs_a_stored_text(grm, judged):
    assert "no verdict 'vd_none'" in grm("audit", "replay", "vd_none").stderr
    hashed = json.loads(
        grm("judge", "--json", stdin=json.dumps(PAIR | {"seed": 9}), GRM_AUDIT_TEXT="false").stdout
    )
    result = grm("audit", "replay", hashed["id"])
    assert result.exit_code == 1
    assert "without texts" in result.stderr


def test_prune_removes_old_records(grm, judged):
    assert "0 records" in grm("audit", "prune", "--days", "1").stderr
    assert "1 records" in grm("audit", "prune", "--days", "0").stderr
    assert grm("audit", "verify").exit_code == 0


def test_invalid_url_is_one_line(grm):
    result = grm("audit", "verify", GRM_AUDIT_URL="mysql://x/y")
    assert result.exit_code == 1
    assert "error: GRM_AUDIT_URL cannot be used" in result.stderr


def test_reading_needs_an_existing_trail(grm, tmp_path):
    for command in (["verify"], ["export"], ["preferences"], ["replay", "vd_1"]):
        result = grm("audit", *command)
        assert result.exit_code == 1
        assert "no audit key" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_broken_trail_is_restarted_with_a_reason(grm, judged, tmp_path):
    assert "valid" in grm("audit", "restart", "--reason", "none").stderr
    with sqlite3.connect(tmp_path / "audit.db") as database:
        database.execute("DELETE FROM records")
    database.close()
    refused = grm("judge", "--json", stdin=json.dumps(PAIR))
    assert refused.exit_code != 0
    assert "is broken" in refused.stderr
    assert grm("audit", "verify").exit_code == 1
    result = grm("audit", "restart", "--reason", "an experiment")
    assert result.exit_code == 0, result.output
    assert grm("judge", "--json", stdin=json.dumps(PAIR)).exit_code == 0
    verified = grm("audit", "verify")
    assert (verified.exit_code, verified.stdout[:2]) == (0, "3:")
