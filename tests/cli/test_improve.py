"""grm improve and grm pairs as a person runs them."""

import json

import pytest

from tests.cli.test_cli import run

ASK = {"query": "Name a [bold]prime[/bold].", "n": 3, "rounds": 2, "k": 4, "max_tokens": 64}


@pytest.fixture
def grm(tmp_path):
    trail = {"GRM_AUDIT_URL": f"sqlite:///{tmp_path}/audit.db", "GRM_AUDIT_KEY_FILE": f"{tmp_path}/audit.key"}

    def grm(*args, stdin=None, code=0, **env):
        result = run(*map(str, args), stdin=stdin, env={"GRM_ENGINE": "scripted"} | trail | env)
        assert result.exit_code == code, result.output
        return result

    return grm


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"Name prime {i}."}) + "\n" for i in range(12)))
    return file


def test_improve_shows_the_tree_the_gain_and_what_speaks_against_it(grm):
    shown = grm("improve", stdin=json.dumps(ASK)).stdout
    reply = json.loads(grm("improve", "--json", stdin=json.dumps(ASK)).stdout)
    for draft in reply["drafts"]:
        assert f"#{draft['id']} " in shown
    assert "(the original)" in shown
    assert reply["best"] != 0
    assert f"gain over the original: {reply['gain']['mean']:+.2f}" in shown
    assert "second opinion: " in shown
    assert "! the policy is the judge" in shown
    assert f"{reply['cost']['generated']} tokens generated" in shown


def test_what_a_model_wrote_is_text_not_markup(grm):
    asked = ASK | {"n": 0, "draft": "[bold]11[/bold] [link=x]"}
    assert "[bold]11[/bold] [link=x]" in grm("improve", stdin=json.dumps(asked)).stdout


@pytest.mark.parametrize(
    ("stdin", "says"),
    [
        ("{", "Invalid JSON"),
        ('{"query": "q", "n": 99}', "n: Input should be"),
        ('{"query": "q", "k": 0}', "k:"),
    ],
)
def test_improve_refuses_a_bad_request_with_the_field(grm, stdin, says):
    assert says in grm("improve", stdin=stdin, code=1).stderr


def test_a_key_for_no_server_is_one_clear_line(grm):
    result = grm("improve", stdin=json.dumps(ASK), code=1, GRM_POLICY_API_KEY="k")
    assert "set GRM_POLICY_URL" in result.stderr


def test_a_policy_that_does_not_answer_is_one_clear_line(grm):
    result = grm(
        "improve",
        stdin=json.dumps(ASK | {"budget": {"seconds": 20}}),
        code=1,
        GRM_POLICY_URL="http://127.0.0.1:9/v1",
    )
    assert "the policy cannot be asked: http://127.0.0.1:9/v1 cannot be reached" in result.stderr


def test_pairs_tells_what_was_kept_and_dropped_and_goes_on_where_it_was(grm, prompts, tmp_path):
    out = tmp_path / "out"
    first = grm("pairs", prompts, "--out", out, "--k", 4, "--margin", 5.5, "--limit", 7)
    kept = len((out / "pairs.jsonl").read_text().splitlines())
    assert f"{out}/pairs.jsonl: {kept} pairs of 7 prompts" in first.stderr
    assert "small_margin" in first.stderr
    again = grm("pairs", prompts, "--out", out, "--k", 4, "--margin", 0.5, "--agreement", 0.5)
    assert "7 of 12 prompts were judged before" in again.stderr
    assert len((out / "pairs.jsonl").read_text().splitlines()) > kept
    refused = grm("pairs", prompts, "--out", out, "--k", 8, code=1)
    assert "k 4, now 8" in refused.stderr


def test_pairs_loads_no_model_where_all_was_judged_before(grm, prompts, tmp_path):
    args = ["pairs", prompts, "--out", tmp_path / "out", "--limit", 1]
    assert "loading" in grm(*args).stderr
    assert "loading" not in grm(*args, "--margin", 0.1).stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--principles", "nice"], "say self, query or fixed"),
        (["--principles", "self:nothing"], "unknown principle"),
    ],
)
def test_pairs_refuses_with_one_clear_line(grm, prompts, tmp_path, args, says):
    assert says in grm("pairs", prompts, "--out", tmp_path / "out", *args, code=1).stderr
