"""grm judge, profiles, models convert and serve, run as commands."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grm_service.api.schemas import RewardRequest
from grm_service.cli import app, console
from grm_service.cli.terminal import letter
from grm_service.engines.files.weights import ensure_safetensors
from grm_service.engines.scripted import SCRIPTS, ScriptedEngine
from grm_service.profiles.catalog import load_catalog
from grm_service.version import __version__

ROOT = Path(__file__).parents[2]
PAIR = {"query": "Name a prime.", "responses": ["11", "[bold]12[/bold]"], "k": 4}


def run(*args, stdin=None, env=None):
    return CliRunner().invoke(app, [*args], input=stdin, env={"COLUMNS": "100", **(env or {})})


def test_judge_prints_json():
    result = run("judge", "--engine", "scripted", "--json", stdin=json.dumps(PAIR))
    assert result.exit_code == 0, result.output
    reply = json.loads(result.stdout)
    assert len(reply["rewards"]) == 2
    assert len(reply["samples"]) == 4


def test_judge_shows_the_verdict(tmp_path):
    file = tmp_path / "pair.json"
    file.write_text(json.dumps(PAIR))
    result = run("judge", str(file), "--engine", "scripted")
    assert result.exit_code == 0, result.output
    for text in (
        "A good response answers the question that was asked.",
        "earns",
        "votes",
        "rewards",
        "agreement",
    ):
        assert text in result.stdout
    assert "[bold]12[/bold]" in result.stdout, "a response is text, not markup"
    assert re.search(r"1st.* [AB] ", result.stdout)
    assert re.search(r"2nd.* [AB] ", result.stdout)
    assert result.stdout.count("principles and critique") == 1


def test_judge_shows_every_critique(tmp_path):
    result = run("judge", "--engine", "scripted", "--all", stdin=json.dumps(PAIR))
    assert [f"sample {i}: principles and critique" in result.stdout for i in range(5)] == [True] * 4 + [False]


def test_responses_are_lettered_as_in_the_explorer():
    assert [letter(i) for i in (0, 25, 26, 63)] == ["A", "Z", "AA", "BL"]


def test_terminal_gets_a_hint(monkeypatch):
    class Terminal(io.BytesIO):
        buffer = property(lambda self: self)

        def isatty(self):
            return True

    monkeypatch.setattr(console.sys, "stdin", Terminal(json.dumps(PAIR).encode()))
    monkeypatch.setattr(console, "say", lambda text: hints.append(text))
    hints = []
    request = console.read_request(RewardRequest, None, {})
    assert request.k == 4
    assert ["Ctrl-D" in hint for hint in hints] == [True]


def test_version():
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"grm-service {__version__}\n")


@pytest.mark.parametrize("command", [["profiles"], ["principles", "list"]])
def test_names_are_whole_at_80_columns(command):
    result = run(*command, env={"COLUMNS": "80"})
    catalog = load_catalog()
    known = catalog.profiles if command == ["profiles"] else catalog.principle_sets
    assert [name for name in known if not re.search(rf"(?<![\w-]){name}(?![\w-])", result.stdout)] == []
    assert "…" not in result.stdout


def test_missing_file_is_one_line(tmp_path):
    result = run("judge", str(tmp_path / "none.json"))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: No such file or directory: ")
    assert "none.json" in result.stderr


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        ("<think>\nA secret draft.</think>\n", ["thought for 15 characters\n", "earns"]),
        (
            "<think>A secret draft",
            ["thought for 14 characters, cut off", "closed by the service: cut_in_thinking"],
        ),
        ("", ["earns"]),
    ],
)
def test_judge_folds_the_thinking(monkeypatch, script, lines):
    def write(prompt, params):
        text = SCRIPTS["content"](prompt, params)
        if "\\boxed{" in prompt.continuation:
            return text
        return script + text if "earns" in lines else script

    monkeypatch.setattr("grm_service.engines.scripted.ScriptedEngine", lambda name: ScriptedEngine(write))
    result = run("judge", "--engine", "scripted", stdin=json.dumps(PAIR))
    assert result.exit_code == 0, result.output
    for line in lines:
        assert line.strip() in result.stdout
    assert "secret" not in result.stdout
    assert ("thought for" in result.stdout) == bool(script)


@pytest.mark.parametrize(
    ("stdin", "message"),
    [("{", "Invalid JSON"), ("{}", "responses"), (json.dumps(PAIR | {"k": 0}), "k:"), ("\ud800", "")],
)
def test_judge_names_the_invalid_field(stdin, message):
    result = run("judge", "--engine", "scripted", stdin=stdin.encode("utf-8", "surrogatepass"))
    assert result.exit_code == 1
    assert message in result.stderr
    assert "error:" in result.stderr


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("flags", [[], ["--k", "2"]])
def test_judge_reads_files_of_windows(tmp_path, encoding, flags):
    file = tmp_path / "PAIR.JSON"
    file.write_bytes(json.dumps(PAIR, indent=2).replace("\n", "\r\n").encode(encoding))
    result = run("judge", str(file), "--engine", "scripted", "--json", *flags)
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["rewards"]) == 2


def test_judge_names_a_file_that_is_no_text(tmp_path):
    (tmp_path / "pair.json").write_bytes(b"\xff\xfe{")
    result = run("judge", str(tmp_path / "pair.json"), "--engine", "scripted")
    assert result.exit_code == 1
    assert "line 1 is not in UTF-16: save the file as UTF-8" in " ".join(result.stderr.split())


def test_judge_fails_if_all_is_unreadable():
    result = run("judge", "--engine", "scripted", stdin=json.dumps(PAIR), env={"GRM_SCRIPT": "unreadable"})
    assert result.exit_code == 1
    assert "none of the 4 samples could be read (no_scores: 4)" in result.stderr


def test_judge_names_a_missing_file():
    result = run("judge", "nowhere.json", "--engine", "scripted")
    assert result.exit_code == 1
    assert "nowhere.json" in result.stderr


def test_votes_are_the_scores_that_count():
    flags = ["--engine", "scripted", "--k", "1", "--score", "soft"]
    (sample,) = json.loads(run("judge", "--json", *flags, stdin=json.dumps(PAIR)).stdout)["samples"]
    shown = run("judge", *flags, stdin=json.dumps(PAIR)).stdout
    assert all(
        score != expected for score, expected in zip(sample["scores"], sample["expected"], strict=True)
    )
    assert all(f" {expected:g} │" in shown.partition("rewards")[0] for expected in sample["expected"])


def test_flags_override_the_request():
    flags = ["--k", "2", "--score", "soft", "--seed", "7", "--principles", "fixed:helpfulness"]
    result = run("judge", "--engine", "scripted", "--json", *flags, stdin=json.dumps(PAIR))
    reply = json.loads(result.stdout)
    assert len(reply["samples"]) == 2
    assert reply["rewards"] == [sum(s["expected"][i] for s in reply["samples"]) / 2 for i in range(2)]
    body = PAIR | {"k": 2, "score": "soft", "seed": 7}
    body["principles"] = {"mode": "fixed", "set": "helpfulness"}
    same = json.loads(run("judge", "--engine", "scripted", "--json", stdin=json.dumps(body)).stdout)
    assert (same["samples"], same["principles"]) == (reply["samples"], reply["principles"])


def test_judge_stops_early():
    clear = {"query": "q", "responses": ["14", "11"], "k": 32}
    result = run("judge", "--engine", "scripted", "--json", "--stop", "exact", stdin=json.dumps(clear))
    reply = json.loads(result.stdout)
    assert reply["stopped"] == "exact"
    assert len(reply["samples"]) < reply["k"] == 32


def test_k_meta_reaches_the_judge(meta_rm):
    args = ["judge", "--engine", "scripted", "--json", "--k-meta", "1"]
    reply = json.loads(run(*args, stdin=json.dumps(PAIR)).stdout)
    assert [sample["counted"] for sample in reply["samples"]].count(True) == 1
    assert len(meta_rm.graded) == 4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--timeout-s", "0"], "timeout_s: Input should be greater than 0"),
        (["--principles", "nice"], "use self, query or fixed"),
        (["--k-meta", "2"], "k_meta needs a meta RM"),
    ],
)
def test_invalid_flags_are_one_line(flags, message):
    result = run("judge", "--engine", "scripted", *flags, stdin=json.dumps(PAIR))
    assert result.exit_code == 1
    assert message in result.stderr


def test_profiles_lists_shipped_profiles():
    result = run("profiles")
    assert result.exit_code == 0
    assert "smollm2-135m" in result.stdout


@pytest.mark.parametrize("names", [["smollm2-135m"], []])
def test_model_is_fetched_by_name_or_for_the_default_judge(names, smollm, monkeypatch):
    monkeypatch.setenv("GRM_PROFILE", "generic-judge" if names else "smollm2-135m")
    result = run("models", "fetch", *names)
    assert result.exit_code == 0, result.stderr
    assert "HuggingFaceTB/SmolLM2-135M-Instruct is at" in result.stderr


def test_convert_writes_gguf_and_serve_command(smollm, tmp_path):
    model = ensure_safetensors(smollm.gguf, smollm.cache)
    result = run("models", "convert", str(model), str(tmp_path / "model.gguf"), "--type", "q8_0")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "model.gguf").read_bytes().startswith(b"GGUF")
    assert f"GRM_MODEL={tmp_path}/model.gguf grm serve" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["/nowhere", "model.gguf"], "/nowhere cannot be converted"),
        (["/nowhere", "model.bin"], "does not end in .gguf"),
        (["/nowhere", "model.gguf", "--base", "/nowhere"], "it is no adapter"),
    ],
)
def test_convert_errors_are_one_line(args, message):
    result = run("models", "convert", *args)
    assert result.exit_code == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    ("env", "message"),
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
def test_serve_errors_are_one_line(env, message):
    result = run("serve", env={"GRM_PORT": "0"} | env)
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in result.stderr


def test_profile_typo_names_file_and_line(tmp_path):
    text = (ROOT / "models/smollm2-135m.yaml").read_text().replace("sampling:", "samplng:")
    (tmp_path / "smollm2-135m.yaml").write_text(text)
    result = run_process("serve", "--engine", "scripted", env={"GRM_MODELS_DIR": str(tmp_path)})
    line = 1 + text[: text.index("samplng:")].count("\n")
    assert result.returncode == 1
    assert f"smollm2-135m.yaml:{line}: samplng: unknown field" in result.stderr


def test_broken_model_error_is_one_line(tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"not a model")
    result = run_process(
        "serve", "--port", "0", env={"GRM_MODEL": str(tmp_path / "broken.gguf"), "GRM_ENGINE": "openvino"}
    )
    assert result.returncode == 1
    assert re.search(r"^error: OpenVINO cannot load the model .*broken\.gguf", result.stderr, re.MULTILINE)


def run_process(*args, env):
    return subprocess.run(
        [sys.executable, "-m", "grm_service", *args],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_importing_judging_is_light():
    heavy = "{'torch', 'pydantic', 'fastapi', 'httpx'}"
    code = f"import sys, grm_service.judging.prompt, grm_service.types; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
