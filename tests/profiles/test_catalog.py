import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from grm_service.errors import CatalogError, UnknownName
from grm_service.profiles.catalog import fingerprint, format_fingerprint, load_catalog, load_profile
from grm_service.profiles.profile import ThinkingSettings
from tests.judging.profiles import PROFILE

ROOT = Path(__file__).parents[2]

GOOD = """\
name: mine
description: A profile of my own.
prompt:
  judge: "{{conversation}} {{responses}}"
  turn: "{{content}}"
  response: "{{i}} {{content}}"
  reference: "{{content}}"
  fixed: "{{items}}"
  constitution: "{{items}}"
  query: "{{conversation}}"
"""


@pytest.fixture
def write(tmp_path):
    def _write(text, name="mine.yaml"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path

    return _write


def test_builtin_files_are_valid():
    catalog = load_catalog()
    assert {"smollm2-judge", "smollm2-135m", "deepseek-grm-16b", "deepseek-grm-27b", "generic-judge"} <= set(
        catalog.profiles
    )
    assert set(catalog.principle_sets) >= {
        "helpfulness", "harmlessness", "honesty", "instruction-following", "code", "mathematics",
        "constitution",
    }  # fmt: skip
    assert catalog.profile("deepseek-grm-27b").meta_rm == "BBQGOD/DeepSeek-GRM-27B-MetaRM"
    for named in catalog.principle_sets.values():
        assert sum(p.weight for p in named.principles) == pytest.approx(1)
        assert all(re.fullmatch(r"[A-Z].*[.]", p.text) for p in named.principles)


ADAPTED = (
    GOOD
    + """\
package: {requirement: pkg==1, member: model.gguf, sha256: "%064d"}
adapter: {folder: ./lora, sha256: "%064d"}
"""
)


@pytest.mark.parametrize("load", [lambda file: load_catalog(file.parent).profile("mine"), load_profile])
def test_adapter_counts_by_hash_not_path(write, load):
    here = load(write(ADAPTED % (1, 2)) / "mine.yaml")
    assert here.adapter.folder == str(write("") / "lora")
    moved = replace(here, adapter=replace(here.adapter, folder="/elsewhere"))
    retrained = replace(here, adapter=replace(here.adapter, sha256="3" * 64))
    assert fingerprint(moved) == fingerprint(here) != fingerprint(retrained)
    assert (
        format_fingerprint(retrained)
        == format_fingerprint(replace(here, adapter=None))
        == format_fingerprint(here)
    )


def test_adapter_needs_a_package(write):
    with pytest.raises(CatalogError, match="adapter is merged into the model of a package"):
        load_catalog(write(GOOD + f'adapter: {{folder: ./lora, sha256: "{"0" * 64}"}}'))


def test_own_profiles_override(write):
    own = write(GOOD.replace("name: mine", "name: generic-judge"), "generic-judge.yaml")
    assert load_catalog(own).profile("generic-judge").description == "A profile of my own."


@pytest.mark.parametrize("name", ["mine.yml", "mine.YAML"])
def test_any_ending_of_yaml_is_loaded(write, name):
    assert load_catalog(write(GOOD, name)).profile("mine").name == "mine"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_windows_are_read(write, encoding):
    plain = load_catalog(write(GOOD)).profile("mine")
    windows = load_catalog(write(GOOD.replace("\n", "\r\n").encode(encoding))).profile("mine")
    assert windows == plain


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (GOOD + "samplng: {k: 4}\n", 11, "samplng: unknown field"),
        (GOOD + "sampling:\n  k: 65\n", 12, "sampling.k: Input should be less than or equal to 64"),
        (GOOD + "sampling:\n  temprature: 1.0\n", 12, "sampling.temprature: unknown field"),
        (GOOD + 'sampling:\n  k: "8"\n', 12, "sampling.k: Input should be a valid integer"),
        (GOOD + "sampling:\n  temperature: .nan\n", 12, "sampling.temperature: "),
        (GOOD + "scale: {min: 5, max: 5}\n", 11, "min (5) must be below max (5)"),
        (GOOD.replace("{{responses}}", "{{respones}}"), 3, "judge lacks the placeholder {{responses}}"),
        (GOOD.replace('"{{items}}"', '"{{items}} {{n}}"'), 3, "unknown placeholder {{n}}"),
        (GOOD.replace("description: A profile of my own.\n", ""), 1, "description: "),
        (GOOD.replace("name: mine", "name: other"), 1, "must be the file's stem 'mine'"),
        (GOOD + "name: twice\n", 11, "duplicate"),
        (GOOD + "closing:\n  text: Scores\n", 11, "must end in \\boxed{"),
        (GOOD + "\tx: 1\n", 11, "found character"),
        ("", 1, ""),
        ("- a\n", 1, ""),
        (b"name: \xff\n", 0, "cannot be read"),
    ],
)
def test_errors_name_file_line_and_field(write, text, line, message):
    with pytest.raises(CatalogError) as caught:
        load_catalog(write(text))
    assert message in str(caught.value)
    assert f"mine.yaml:{line or ''}" in str(caught.value)


def test_unknown_name_lists_known_ones():
    with pytest.raises(UnknownName, match=r"unknown profile 'x'; known: .*smollm2-135m") as caught:
        load_catalog().profile("x")
    assert caught.value.code == "unknown_profile"


def test_missing_folder_is_an_error(tmp_path):
    with pytest.raises(CatalogError, match="GRM_MODELS_DIR"):
        load_catalog(tmp_path / "none")


EXAMPLES = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "profiles.md").read_text("utf-8"), re.DOTALL)[1]


@pytest.mark.parametrize("example", EXAMPLES.split("---\n"))
def test_thinking_examples_load(write, example):
    settings = load_profile(write(GOOD + example) / "mine.yaml").thinking
    assert settings != ThinkingSettings()
    for tokens in (settings.tokens, 0):
        json.dumps(settings.request_fields(tokens))


def test_fingerprint_without_thinking_settings():
    reported = json.loads((ROOT / "evals" / "smollm2-judge.json").read_text(encoding="utf-8"))
    judge = load_catalog().profile("smollm2-judge")
    assert fingerprint(judge) == reported["fingerprint"]
    thinks = replace(judge, thinking=ThinkingSettings(tokens=0))
    assert fingerprint(thinks) != fingerprint(judge)
    assert format_fingerprint(thinks) == format_fingerprint(judge)


def test_fingerprint_changes_with_any_field():
    assert fingerprint(PROFILE) == fingerprint(replace(PROFILE))
    assert fingerprint(PROFILE) != fingerprint(replace(PROFILE, opening="x"))
    assert fingerprint(PROFILE).startswith("sha256:")
