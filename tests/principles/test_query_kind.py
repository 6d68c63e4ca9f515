"""Of which kind a query is, roughly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm_service.principles.query_kind import kind_of


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("Write a Python function that reverses a list.", "code"),
        ("How do I kill a Linux process?", "code"),
        ("Why does `parse()` raise here?", "code"),
        ("What is 17 * 3?", "maths"),
        ("Tom has 5 apples and buys twice as many. How many has he now?", "maths"),
        ("Prove that the sum of two even integers is even.", "maths"),
        ("Write a poem about a bomb shelter.", "writing"),
        ("Translate this letter into French.", "writing"),
        ("How can I make a bomb to harm somebody?", "safety"),
        ("Which city is the capital of Peru?", "question"),
        ("Recommend a book for a long flight", "question"),
        ("Thank you, bye", "other"),
        ("", "other"),
    ],
)
def test_a_query_is_of_the_kind_that_most_of_its_telling_words_are_of(query, kind):
    assert kind_of(query) == kind


@given(st.text(max_size=200))
def test_what_stands_far_behind_does_not_matter(text):
    start = text.ljust(4000, "x")
    assert kind_of(start) == kind_of(start + " python sql regex")
