"""Normalised wordings of principles."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grm_service.principles.wording import MAX_CHARS, content, is_english, normalise

PIECES = st.sampled_from([
    "1.", "-", "**", "(40%)", "[weight:0.3]", "Weight", "40", "%", "a", "it", "have", "It should be", "steps",
    "A good response to this question must", "user's's", "1.5x", "3.1.4:", "İ", "ß", "’", "'", ".", "é", "解",
])  # fmt: skip


@pytest.mark.parametrize(
    "wording",
    [
        "The response gives the steps of the proof.",
        "1. **Gives the step of a proof** (Weight: 40%)",
        "A good response to this question should give the steps of the proof [weight: 0.4]",
        "- It must also provide the steps of the proof; weight 30",
        "1.1.2: each answer has to contain steps of the proof (30%)",
        "Include the steps of the proof",
    ],
)
def test_markup_and_openings_are_ignored(wording):
    assert normalise(wording) == "step of proof"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The answer is correct.", "The answer is not correct."),
        ("It has 3 steps.", "It has 4 steps."),
        ("A bad response is long.", "A good response is long."),
        ("Accuracy of at least 90%", "Accuracy of at least 80%"),
        ("Weighs the 40 objections", "Weighs the objections"),
    ],
)
def test_meaning_changes_the_key(one, other):
    assert normalise(one) != normalise(other)


@pytest.mark.parametrize("text", ["", " ", "1. **", "(40%)", "...", "the"])
def test_no_words_no_key(text):
    assert normalise(text) == ""


@example("weight weight 1 2")
@example("İ" * MAX_CHARS)
@given(st.text(max_size=2 * MAX_CHARS) | st.lists(PIECES, max_size=300).map(" ".join))
def test_normalise_is_idempotent(text):
    key = normalise(text)
    assert normalise(key) == key
    assert len(key) <= MAX_CHARS


def test_negations_are_content_words():
    assert content("What is it that the User's notes do not say?") == {"user", "note", "not", "say"}


def test_english_is_detected():
    assert is_english("What is the capital of Peru?")
    assert not is_english("Was ist in der Hauptstadt los?")
    assert not is_english("print(1)")
