"""Findings of the principle linter, and texts without findings."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grm_service.principles.lint import lint
from grm_service.profiles.catalog import load_catalog
from tests.waiting import HANG_S

BOLD = "Which theorem of Euclid is about primes? Answer in bold."
LOOPS = [
    "and ",
    "well and ",
    "it is ",
    "cite not ",
    "1.",
    "a'",
    "1 points ",
    "'s",
    "( ",
    "says that it ",
    "解",
]


def rules(text, query=None):
    return {finding.rule for finding in lint([text], query)[0]}


def seconds(loop):
    began = time.perf_counter()
    lint([loop * 50_000] * 12, "Which is it? " + loop * 50_000)
    return time.perf_counter() - began


@pytest.mark.parametrize("named", load_catalog().principle_sets.values(), ids=lambda named: named.name)
def test_builtin_sets_have_no_findings(named):
    assert [findings for findings in lint([p.text for p in named.items()]) if findings] == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("The story is engaging.", "subjective"),
        ("It is easy to follow.", "subjective"),
        ("The task is done well.", "subjective"),
        ("The answer is accurate and relevant.", "compound"),
        ("The claims are factual, complete and consistent.", "compound"),
        ("The response names the theorem and explains its proof.", "compound"),
        ("It must name the theorem and must not skip a step.", "compound"),
        ("The response has at least 300 words.", "style"),
        ("A good response is concise.", "style"),
        ("Uses headings, bullets and bold type.", "style"),
        ("The tone is friendly.", "style"),
        ("The response cites sources.", "gameable"),
        ("The response sounds confident.", "gameable"),
        ("It mentions the theorem of Euclid.", "gameable"),
        ("The response includes the words 'prime' and 'factor'.", "gameable"),
        ("The reasoning is shown step by step.", "gameable"),
        ("The response must have a score of 10.", "gameable"),
        ("It says that it is sure.", "gameable"),
    ],
)
def test_fault_matches_exactly_one_rule(text, rule):
    assert rules(text) == {rule}


@pytest.mark.parametrize(
    "text",
    [
        "Length and formatting earn nothing by themselves.",
        "The format is the one that was asked for.",
        "The response names no source that it does not quote.",
        "Every source that it cites exists.",
        "It does not sound more confident than its evidence is.",
        "A claim of a high score counts for nothing.",
        "Every option and module in the code exists.",
        "The question is answered, and not a neighbouring one.",
        "In the long run the loan costs less, as well as in the short term.",
        "A good response names the theorem.",
        "解答は正しい。",
        "",
    ],
)
def test_similar_wording_is_no_fault(text):
    assert rules(text) == set()


def test_form_required_by_query_passes():
    assert rules("The name stands in bold.") == {"style"}
    assert rules("The name stands in bold.", BOLD) == set()


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ("Names a train to the museum in Berlin.", BOLD, {"ungrounded"}),
        ("Names the theorem on the train to the museum in Berlin.", BOLD, set()),
        ("The facts are correct.", BOLD, set()),
        ("Names a train to the museum in Berlin.", None, set()),
        ("Names a train to the museum in Berlin.", "Quelle heure est-il ?", set()),
    ],
    ids=["alien", "shares a word", "general", "no query", "not English"],
)
def test_unrelated_principle_is_ungrounded(text, query, expected):
    assert rules(text, query) == expected


def test_later_duplicate_is_redundant():
    first, other, again = lint(
        [
            "The proof covers all cases of the theorem.",
            "Every number is right.",
            "A good response covers all of the cases of the theorem in the proof.",
        ]
    )
    assert first == other == ()
    assert [finding.rule for finding in again] == ["redundant"]
    assert "principle 1" in again[0].message


def test_opposites_are_no_duplicates():
    assert lint(["The request is answered at once.", "The request is not answered at once."]) == [(), ()]


def test_finding_has_words_and_advice():
    (finding,) = lint(["The plot is engaging, inspiring, fun, great, and engaging."])[0]
    assert finding.words == ("engaging", "inspiring", "fun")
    assert (
        finding.message
        == 'readers differ on "engaging", "inspiring", "fun": state something that can be checked'
    )


@given(st.lists(st.text(), max_size=5), st.none() | st.text())
def test_any_text_can_be_linted(texts, query):
    assert len(lint(texts, query)) == len(texts)


@pytest.mark.parametrize("loop", LOOPS)
def test_long_loops_are_fast(loop):
    assert seconds(loop) < HANG_S


@settings(max_examples=20, deadline=None)
@given(st.text(alphabet="adn wel's.1%-", min_size=1, max_size=6))
def test_patterns_do_not_backtrack(loop):
    assert seconds(loop) < HANG_S
