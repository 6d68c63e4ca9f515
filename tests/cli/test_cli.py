import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grm_service.cli import app
from grm_service.engines.files.weights import safetensors

ROOT = Path(__file__).parents[2]
PAIR = {"query": "Name a prime.", "responses": ["11", "[bold]12[/bold]"], "k": 4}


def run(*args, stdin=None, env=None):
    return CliRunner().invoke(app, [*args], input=stdin, env={"COLUMNS": "100", **(env or {})})


def test_judge_prints_the_reply_for_machines():
    result = run("judge", "--engine", "scripted", "--json", stdin=json.dumps(PAIR))
    assert result.exit_code == 0, result.output
    reply = json.loads(result.stdout)
    assert len(reply["rewards"]) == 2
    assert len(reply["samples"]) == 4


def test_judge_shows_principles_critique_votes_and_rewards(tmp_path):
    file = tmp_path / "pair.json"
    file.write_text(json.dumps(PAIR))
    result = run("judge", str(file), "--engine", "scripted")
    assert result.exit_code == 0, result.output
    for shown in (
        "A good response answers the question that was asked.",
        "earns",
        "votes",
        "rewards",
        "agreement",
    ):
        assert shown in result.stdout
    assert "[bold]12[/bold]" in result.stdout, "a response is text, not markup"


@pytest.mark.parametrize(
    ("stdin", "says"),
    [("{", "Invalid JSON"), ("{}", "responses"), (json.dumps(PAIR | {"k": 0}), "k:"), ("\ud800", "")],
)
def test_judge_refuses_a_bad_request_with_the_field(stdin, says):
    result = run("judge", "--engine", "scripted", stdin=stdin.encode("utf-8", "surrogatepass"))
    assert result.exit_code == 1
    assert says in result.stderr
    assert "error:" in result.stderr


def test_judge_fails_where_nothing_is_readable():
    result = run("judge", "--engine", "scripted", stdin=json.dumps(PAIR), env={"GRM_SCRIPT": "unreadable"})
    assert result.exit_code == 1
    assert "none of the 4 samples could be read (no_scores: 4)" in result.stderr


def test_judge_says_when_the_file_is_not_there():
    result = run("judge", "nowhere.json", "--engine", "scripted")
    assert result.exit_code == 1
    assert "nowhere.json" in result.stderr


def test_profiles_lists_what_ships():
    result = run("profiles")
    assert result.exit_code == 0
    assert "smollm2-135m" in result.stdout


def test_models_convert_writes_a_gguf_that_says_how_to_serve_it(smollm, tmp_path):
    model = safetensors(smollm.package, smollm.cache)
    result = run("models", "convert", str(model), str(tmp_path / "model.gguf"), "--type", "q8_0")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "model.gguf").read_bytes().startswith(b"GGUF")
    assert f"GRM_MODEL={tmp_path}/model.gguf grm serve" in result.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["/nowhere", "model.gguf"], "/nowhere cannot be converted"),
        (["/nowhere", "model.bin"], "does not end in .gguf"),
        (["/nowhere", "model.gguf", "--base", "/nowhere"], "it is no adapter"),
    ],
)
def test_models_convert_refuses_with_one_clear_line(args, says):
    result = run("models", "convert", *args)
    assert result.exit_code == 1
    assert says in result.stderr


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"GRM_PORT": "x"}, "GRM_PORT"),
        ({"GRM_PROFILE": "nope"}, "unknown profile 'nope'"),
        ({"GRM_ENGINE": "openai"}, "GRM_OPENAI_BASE_URL"),
        ({"GRM_MODELS_DIR": "/nowhere"}, "GRM_MODELS_DIR"),
        ({"GRM_PROFILE": "generic-judge", "GRM_ENGINE": "openvino"}, "GRM_MODEL"),
        ({"GRM_MODEL": "/nowhere/model.gguf", "GRM_ENGINE": "openvino"}, "/nowhere/model.gguf"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_serve_refuses_to_start_with_one_clear_line(env, says):
    result = started("serve", env=env)
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert says in errors[0]
    assert "Traceback" not in result.stderr


def test_serve_refuses_a_profile_with_a_typo_and_names_file_line_and_field(tmp_path):
    text = (ROOT / "models/smollm2-135m.yaml").read_text().replace("sampling:", "samplng:")
    (tmp_path / "smollm2-135m.yaml").write_text(text)
    result = started("serve", "--engine", "scripted", env={"GRM_MODELS_DIR": str(tmp_path)})
    line = 1 + text[: text.index("samplng:")].count("\n")
    assert result.returncode == 1
    assert f"smollm2-135m.yaml:{line}: samplng: unknown field" in result.stderr


def test_a_broken_model_file_is_one_clear_line(tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"not a model")
    result = started(
        "serve", "--port", "0", env={"GRM_MODEL": str(tmp_path / "broken.gguf"), "GRM_ENGINE": "openvino"}
    )
    assert result.returncode == 1
    assert re.search(r"^error: OpenVINO cannot load the model .*broken\.gguf", result.stderr, re.MULTILINE)


def started(*args, env):
    return subprocess.run(
        [sys.executable, "-m", "grm_service", *args],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_importing_the_package_and_the_method_is_light():
    heavy = "{'torch', 'pydantic', 'fastapi', 'httpx'}"
    code = f"import sys, grm_service.judging.prompt, grm_service.types; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
