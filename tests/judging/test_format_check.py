"""The check of a profile's format."""

from dataclasses import replace

import pytest

from grm_service.errors import CatalogError
from grm_service.factory import open_service
from grm_service.judging.format_check import format_fault
from grm_service.profiles.catalog import load_catalog
from grm_service.profiles.profile import Closing, Sections
from grm_service.settings import Settings
from tests.judging.profiles import PROFILE
from tests.profiles.test_catalog import GOOD


def test_shipped_formats_are_readable():
    assert [profile.name for profile in load_catalog().profiles.values() if format_fault(profile)] == []


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("\n\\boxed{", True),
        ("\nÉn ítéletem ez: \\boxed{", True),
        ("\n\n【裁决】\\boxed{", True),
        ("\n```\n\\boxed{", True),
        ("\\boxed{", False),
        (" Scores: \\boxed{", False),
        ("\nScores: \\boxed{1}, \\boxed{", False),
        ("\nFirst: \\boxed{1} and then: \\boxed{", False),
        ("\n" + "word " * 60 + "\\boxed{", False),
    ],
)
def test_closing_text(text, readable):
    fault = format_fault(replace(PROFILE, closing=Closing(text=text)))
    assert (fault and fault[0]) == (None if readable else ("closing", "text"))


@pytest.mark.parametrize(
    ("ask", "readable"),
    [
        ("只写评分，形式为 \\boxed{{{boxed}}}", True),
        ("Write \\boxed{score 1, score 2}", True),
        ("Write \\boxed{[{{boxed}}]}", True),
        ("Write [[{{boxed}}]]", False),
        ("Write \\boxed{scores: {{boxed}}}", False),
        ("Write \\boxed{ {{boxed}}", False),
        ("Write JSON.", False),
    ],
)
def test_closing_ask(ask, readable):
    fault = format_fault(replace(PROFILE, closing=Closing(ask=ask)))
    assert (fault and fault[0]) == (None if readable else ("closing", "ask"))


def test_box_of_the_judge_prompt():
    prompt = replace(PROFILE.prompt, judge="{{conversation}}{{responses}} Scores: [[{{boxed}}]]")
    assert format_fault(replace(PROFILE, prompt=prompt))[0] == ("prompt", "judge")


@pytest.mark.parametrize(
    ("criteria", "analysis"),
    [
        ("分析标准：", "分析："),
        ("Analysis", "Analysis of both"),
        ("## Kriterien", "## Analyse"),
        ("a(b", "c[d"),
    ],
)
def test_odd_section_labels_are_readable(criteria, analysis):
    assert format_fault(replace(PROFILE, sections=Sections(criteria, analysis))) is None


@pytest.mark.parametrize(("criteria", "analysis"), [("A", "a "), ("**", "A"), ("A\nB", "C")])
def test_section_labels_without_words(criteria, analysis):
    with pytest.raises(ValueError, match="criteria"):
        Sections(criteria, analysis)


@pytest.mark.parametrize("named", [True, False])
def test_service_refuses_an_unreadable_format(tmp_path, named):
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD + 'closing:\n  ask: "Write JSON."\n')
    places = {"profile": str(file)} if named else {"models_dir": tmp_path}
    with pytest.raises(CatalogError, match=r"mine\.yaml:12: closing\.ask: must request the scores in .boxed"):
        open_service(Settings(engine="scripted", audit_url=f"sqlite:///{tmp_path}/audit.db", **places))
