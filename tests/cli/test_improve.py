"""grm improve and grm pairs, run as commands."""

import json

import pytest

from tests.cli.test_cli import run

REQUEST = {"query": "Name a [bold]prime[/bold].", "n": 3, "rounds": 2, "k": 4, "max_tokens": 64}


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


def test_improve_shows_the_lineage(grm):
    output = grm("improve", stdin=json.dumps(REQUEST)).stdout
    reply = json.loads(grm("improve", "--json", stdin=json.dumps(REQUEST)).stdout)
    for draft in reply["drafts"]:
        assert f"#{draft['id']} " in output
    assert "(the original)" in output
    assert reply["best"] != 0
    assert f"gain over the original: {reply['gain']['mean']:+.2f}" in output
    assert "second opinion: " in output
    assert "! the policy is the judge" in output
    assert f"{reply['cost']['generated']} tokens generated" in output


def test_drafts_are_not_markup(grm):
    request = REQUEST | {"n": 0, "draft": "[bold]11[/bold] [link=x]"}
    assert "[bold]11[/bold] [link=x]" in grm("improve", stdin=json.dumps(request)).stdout


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        ("{", "Invalid JSON"),
        ('{"query": "q", "n": 99}', "n: Input should be"),
        ('{"query": "q", "k": 0}', "k:"),
    ],
)
def test_improve_names_the_invalid_field(grm, stdin, message):
    assert message in grm("improve", stdin=stdin, code=1).stderr


def test_api_key_needs_a_policy_url(grm):
    result = grm("improve", stdin=json.dumps(REQUEST), code=1, GRM_POLICY_API_KEY="k")
    assert "need GRM_POLICY_URL" in result.stderr


def test_unreachable_policy_is_one_line(grm):
    result = grm(
        "improve",
        stdin=json.dumps(REQUEST | {"budget": {"seconds": 20}}),
        code=1,
        GRM_POLICY_URL="http://127.0.0.1:9/v1",
    )
    assert "the policy is not available: http://127.0.0.1:9/v1 cannot be reached" in result.stderr


def test_pairs_reports_and_resumes(grm, prompts, tmp_path):
    out = tmp_path / "out"
    first = grm("pairs", prompts, "--out", out, "--k", 4, "--margin", 5.5, "--limit", 7)
    pairs = len((out / "pairs.jsonl").read_text().splitlines())
    assert f"{out}/pairs.jsonl: {pairs} pairs of 7 prompts" in first.stderr
    assert "small_margin" in first.stderr
    again = grm("pairs", prompts, "--out", out, "--k", 4, "--margin", 0.5, "--agreement", 0.5)
    assert "7 of 12 prompts were judged before" in again.stderr
    assert len((out / "pairs.jsonl").read_text().splitlines()) > pairs
    refused = grm("pairs", prompts, "--out", out, "--k", 8, code=1)
    assert "k 4, now 8" in refused.stderr


def test_finished_pairs_load_no_model(grm, prompts, tmp_path):
    args = ["pairs", prompts, "--out", tmp_path / "out", "--limit", 1]
    assert "loading" in grm(*args).stderr
    assert "loading" not in grm(*args, "--margin", 0.1).stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--principles", "nice"], "use self, query or fixed"),
        (["--principles", "self:nothing"], "unknown principle"),
        (["--timeout-s", "0"], "--timeout-s: Input should be greater than 0"),
        (["--k-meta", "2"], "k_meta needs a meta RM"),
    ],
)
def test_pairs_errors_are_one_line(grm, prompts, tmp_path, args, message):
    assert message in grm("pairs", prompts, "--out", tmp_path / "out", *args, code=1).stderr


def test_improve_flags_override_the_request(grm, meta_rm):
    flags = ["--k", "2", "--k-meta", "1", "--score", "soft", "--critique-tokens", "300"]
    reply = json.loads(grm("improve", "--json", *flags, stdin=json.dumps(REQUEST | {"k_meta": 3})).stdout)
    verdicts = [judged["verdict"] for judged in (*reply["rounds"], reply["second_opinion"])]
    for verdict in verdicts:
        assert [sample["counted"] for sample in verdict["samples"]] in ([True, False], [False, True])
        counted = next(sample for sample in verdict["samples"] if sample["counted"])
        assert verdict["rewards"] == counted["expected"]


def test_improve_stops_early(grm):
    request = REQUEST | {"n": 2, "rounds": 0, "k": 2}
    reply = json.loads(
        grm("improve", "--json", "--k", 64, "--stop", "exact", stdin=json.dumps(request)).stdout
    )
    verdict = reply["rounds"][0]["verdict"]
    assert (verdict["k"], verdict["stopped"]) == (64, "exact")


def test_pairs_flags_reach_the_judge(grm, prompts, tmp_path, meta_rm):
    out = tmp_path / "out"
    flags = ["--k", 4, "--k-meta", 1, "--score", "soft", "--timeout-s", 60, "--critique-temperature", 0.5]
    grm("pairs", prompts, "--out", out, "--limit", 2, *flags, "--critique-tokens", 300)
    results = [json.loads(line) for line in (out / "compared.jsonl").read_text().splitlines()]
    assert [len(result["scores"]) for result in results] == [1, 1]
    # The scripted engine gives a quarter to the number below, unless that is off the scale.
    assert {score % 1 for result in results for score in result["scores"][0] if score > 1} == {0.75}
    setup = json.loads((out / "setup.json").read_text())
    assert (setup["temperature"], setup["critique_temperature"]) == (0.8, 0.5)
    assert (setup["max_tokens"], setup["critique_tokens"]) == (512, 300)
    assert (setup["k_meta"], setup["score"], setup["timeout_s"]) == (1, "soft", 60)


def test_pairs_stops_early(grm, prompts, tmp_path):
    out = tmp_path / "out"
    grm("pairs", prompts, "--out", out, "--limit", 4, "--k", 64, "--stop", "confident", "--n", 2)
    results = [json.loads(line) for line in (out / "compared.jsonl").read_text().splitlines()]
    assert min(len(result["scores"]) for result in results) < 64
