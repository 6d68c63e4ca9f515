import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from grm_service.errors import CatalogError, UnknownName
from grm_service.profiles.catalog import (
    fingerprint,
    format_fingerprint,
    load_catalog,
    load_principles,
    load_profile,
)
from grm_service.profiles.profile import ThinkingSettings
from grm_service.settings import Settings
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
    default = catalog.profile(Settings.model_fields["profile"].default)
    assert default.gguf, "works on a machine that reaches no hub"
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
gguf: {size: 1, sha256: "%064d", sources: [{wheel: pkg==1, member: model.gguf}]}
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


def test_adapter_needs_a_gguf(write):
    with pytest.raises(CatalogError, match="adapter is merged into the model of a GGUF"):
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
        (GOOD + 'comparison: "Best: "\n', 1, "comparison needs the placeholder {{best}}"),
        (GOOD + "\tx: 1\n", 11, "found character"),
        ("", 1, ""),
        ("- a\n", 1, ""),
        (b"name: mine\ndescription: \xff\n", 2, "file: is not in UTF-8"),
    ],
)
def test_errors_name_file_line_and_field(write, text, line, message):
    with pytest.raises(CatalogError) as caught:
        load_catalog(write(text))
    assert message in str(caught.value)
    assert f"mine.yaml:{line or ''}" in str(caught.value)


LAUGHS = "".join(f"a{i + 1}: &a{i + 1} [{','.join(10 * [f'*a{i}'])}]\n" for i in range(7))
ODD_YAML = {
    "laughs": ("a0: &a0 x\n" + LAUGHS, 2, "a1.0: an alias"),
    "recursive": ("description: &a [*a]\n", 1, "description.0: an alias"),
    "alias_key": ("a: &a b\n*a : c\n", 2, "an alias"),
    "list_key": ("? [a, b]\n: c\n", 1, "a key that is no text"),
    "number_key": ("name: x\n1: c\n", 2, "a key that is no text"),
    "null_key": ("sampling:\n  ~: c\n", 2, "sampling: a key that is no text"),
    "merge": ("<<: {name: x}\n", 1, "<<: unknown field"),
    "control": ('name: x\ndescription: "\x07"\n', 2, "control character"),
    "escaped_control": ('description: "\\x1b[31m"\n', 1, "description: the control character"),
    "escaped_nul": ('description: "\\0"\n', 1, "description: the control character"),
    "escaped_surrogate": ('description: "\\ud800"\n', 1, "description: the control character"),
    "too_high_escape": ('description: "\\U00110000"\n', 1, "file: "),
    "nul": ("name: x\n\x00\n", 2, "file: has a NUL byte"),
    "utf16_of_nothing": (b"\xff\xfe", 1, "file: "),
    "deep_list": ("description: " + 3000 * "[", 1, "nested deeper"),
    "deep_mapping": ("description: " + 3000 * "{a: ", 1, "nested deeper"),
    "deep_dashes": ("- " * 3000, 1, "nested deeper"),
    "digits": (f"name: {'9' * 5000}\n", 1, "name: a number of 5000 digits"),
    "exponent": ("sampling:\n  temperature: 1e999\n", 2, "sampling.temperature: 1e999 is no finite number"),
    "infinite": ("sampling:\n  temperature: -.inf\n", 2, "sampling.temperature: -.inf is no finite"),
    "python": ('name: !!python/object/apply:os.system ["touch PWNED"]\n', 1, "name: the tag"),
    "binary": ('name: !!binary "AAAA"\n', 1, "name: the tag"),
    "set": ("description: !!set {a}\n", 1, "description: the tag"),
    "bad_int": ("sampling:\n  k: !!int x\n", 2, "sampling.k: the tag"),
    "bad_timestamp": ("!!timestamp x: 1\n", 1, "the tag"),
    "omap": ("name: !!omap [1]\n", 1, "name: the tag"),
    "own_tag": ("!x\nname: a\n", 1, "the tag"),
    "two_documents": ("name: x\n---\nname: y\n", 2, "a second document"),
    "future": ("%YAML 9.9\n---\nname: x\n", 1, "file: "),
    "undefined_tag": ("name: !e!x y\n", 1, "file: "),
    "sexagesimal": ("sampling:\n  k: 1:30\n", 2, "sampling.k: Input should be a valid integer"),
    "octal": ("sampling:\n  k: 0o9\n", 2, "sampling.k: Input should be a valid integer"),
    "boolean_name": ("name: true\n", 1, "name: Input should be a valid string"),
    "unclosed": ('name: "x\n', 2, "file: "),
    "large": ("#" * (1 << 18), 0, "larger than 128 KiB"),
    "minor_version": ("%YAML 1.99\n---\nname: x\n", 1, "file: version"),
}


@pytest.mark.parametrize(("text", "line", "message"), ODD_YAML.values(), ids=ODD_YAML)
def test_odd_yaml_names_line_and_field(tmp_path, text, line, message):
    file = tmp_path / "mine.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CatalogError) as caught:
        load_profile(file)
    assert message in str(caught.value)
    assert f"mine.yaml:{line or ''}" in str(caught.value)
    assert not (Path.cwd() / "PWNED").exists()


def test_words_of_yaml_1_1_are_texts(tmp_path):
    """`no`, `on`, dates and times where a text belongs are that text."""
    lines = [f"{{text: {word}, weight: 0.1}}" for word in ("no", "on", "2020-99-99", "1:2:3", "1_000", "0x")]
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\ndescription: 2020-01-01\nprinciples:\n- " + "\n- ".join(lines) + "\n")
    texts = [each.text for each in load_principles(file)[0].principles]
    assert texts == ["no", "on", "2020-99-99", "1:2:3", "1_000", "0x"]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", ["fifo", "link_to_fifo", "folder", "loop", "dangling", "device"])
def test_only_regular_files_are_read(tmp_path, kind):
    file = tmp_path / "mine.yaml"
    if kind.endswith("fifo"):
        target = tmp_path / "fifo" if kind == "link_to_fifo" else file
        os.mkfifo(target)
    if kind == "folder":
        file.mkdir()
    links = {"loop": "mine.yaml", "dangling": "nothing", "device": "/dev/zero", "link_to_fifo": "fifo"}
    if kind in links:
        file.symlink_to(links[kind])
    with pytest.raises(CatalogError, match=r"mine\.yaml: cannot be read"):
        load_catalog(None, tmp_path)


@pytest.mark.parametrize("name", ["../../x", "x\u202e", "/etc/passwd"])
def test_odd_names_are_refused(tmp_path, name):
    (tmp_path / "x.yaml").write_text(json.dumps({"name": name, "description": "d", "principles": []}))
    with pytest.raises(CatalogError, match=r"x\.yaml:1: (name|principles)"):
        load_catalog(None, tmp_path)


def test_unknown_name_lists_known_ones():
    with pytest.raises(UnknownName, match=r"unknown profile 'x'; known: .*smollm2-135m") as caught:
        load_catalog().profile("x")
    assert caught.value.code == "unknown_profile"


def test_missing_folder_is_an_error(tmp_path):
    with pytest.raises(CatalogError, match="GRM_MODELS_DIR"):
        load_catalog(tmp_path / "none")


FILES, EXAMPLES = re.findall(
    r"```yaml\n(.*?)```", (ROOT / "docs" / "profiles.md").read_text("utf-8"), re.DOTALL
)[:2]


def test_example_of_files_loads(write):
    hub, wheel, parts = load_profile(write(GOOD + FILES) / "mine.yaml").gguf.sources
    assert len(hub.revision) == 40
    assert wheel.part(1) == ("some-package==0.1.2", "some_package/model.gguf")
    assert parts.part(7) == ("in-parts-7==0.2.0", "in_parts_7/data/part07.bin")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{wheel: pkg==1, member: a.bin, parts: 2}", "lack {part}"),
        ("{hub: a/b, revision: main, file: a.gguf}", "at least 40"),
        ("{url: http://example.org}", "unknown field"),
    ],
)
def test_source_is_checked(write, source, message):
    text = GOOD + f'gguf: {{size: 1, sha256: "{"0" * 64}", sources: [{source}]}}'
    with pytest.raises(CatalogError, match=r"mine\.yaml:\d+: gguf\.sources\.0") as failed:
        load_profile(write(text) / "mine.yaml")
    assert message in str(failed.value)


@pytest.mark.parametrize("example", EXAMPLES.split("---\n"))
def test_thinking_examples_load(write, example):
    settings = load_profile(write(GOOD + example) / "mine.yaml").thinking
    assert settings != ThinkingSettings()
    for tokens in (settings.tokens, 0):
        json.dumps(settings.request_fields(tokens))


def test_fingerprints_of_older_verdicts():
    """New fields do not count while they are not used."""
    judge = load_catalog().profile("generic-judge")
    assert fingerprint(judge) == "sha256:480deca9d0005daa76be601f935ada0f937e4a1a6fdfe113201a42f8388cdfc5"
    changed = [
        replace(judge, thinking=ThinkingSettings(tokens=0)),
        replace(judge, sampling=replace(judge.sampling, score="soft")),
        replace(judge, comparison="\nAnalysis: Response {{best}}"),
    ]
    assert len({fingerprint(judge), *map(fingerprint, changed)}) == 4
    assert {format_fingerprint(each) for each in changed} == {format_fingerprint(judge)}


def test_source_of_a_model_does_not_count(write):
    """The same file from elsewhere is the same judge."""
    here = load_profile(write(GOOD + FILES) / "mine.yaml")
    moved = replace(here, gguf=replace(here.gguf, sources=here.gguf.sources[:1]))
    changed = replace(here, gguf=replace(here.gguf, sha256="0" * 64))
    assert fingerprint(moved) == fingerprint(here) != fingerprint(changed)


def test_fingerprint_changes_with_any_field():
    assert fingerprint(PROFILE) == fingerprint(replace(PROFILE))
    assert fingerprint(PROFILE) != fingerprint(replace(PROFILE, opening="x"))
    assert fingerprint(PROFILE).startswith("sha256:")
