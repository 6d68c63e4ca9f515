"""What the linter finds on principles, and what it leaves alone."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grm_service.principles.lint import lint
from grm_service.profiles.catalog import load_catalog

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
def test_the_sets_that_ship_have_no_findings(named):
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
def test_a_fault_is_found_by_exactly_its_rule(text, rule):
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
def test_what_only_looks_like_a_fault_is_left_alone(text):
    assert rules(text) == set()


def test_the_form_that_the_query_asks_for_is_substance():
    assert rules("The name stands in bold.") == {"style"}
    assert rules("The name stands in bold.", BOLD) == set()


@pytest.mark.parametrize(
    ("text", "query", "found"),
    [
        ("Names a train to the museum in Berlin.", BOLD, {"ungrounded"}),
        ("Names the theorem on the train to the museum in Berlin.", BOLD, set()),
        ("The facts are correct.", BOLD, set()),
        ("Names a train to the museum in Berlin.", None, set()),
        ("Names a train to the museum in Berlin.", "Quelle heure est-il ?", set()),
    ],
    ids=["alien", "shares a word", "general", "no query", "not English"],
)
def test_a_principle_is_ungrounded_where_it_has_nothing_to_do_with_the_query(text, query, found):
    assert rules(text, query) == found


def test_of_two_near_duplicates_the_later_is_redundant():
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


def test_a_finding_has_the_words_and_says_what_to_do():
    (found,) = lint(["The plot is engaging, inspiring, fun, great, and engaging."])[0]
    assert found.words == ("engaging", "inspiring", "fun")
    assert found.message == 'readers differ on "engaging", "inspiring", "fun": say what one can check'


@given(st.lists(st.text(), max_size=5), st.none() | st.text())
def test_any_text_has_findings_or_none(texts, query):
    assert len(lint(texts, query)) == len(texts)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_a_looping_model_writes_takes_no_longer_for_being_long(loop):
    assert seconds(loop) < 1


@settings(max_examples=20, deadline=None)
@given(st.text(alphabet="adn wel's.1%-", min_size=1, max_size=6))
def test_no_loop_makes_a_pattern_go_back_and_forth(loop):
    assert seconds(loop) < 1
