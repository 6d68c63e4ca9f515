"""Keyword classification of queries."""

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
def test_kind_by_most_keywords(query, kind):
    assert kind_of(query) == kind


@given(st.text(max_size=200))
def test_only_the_start_is_read(text):
    start = text.ljust(4000, "x")
    assert kind_of(start) == kind_of(start + " python sql regex")
