"""Hints: what a trajectory takes from the label, and where the judge's own words end."""

import pytest

from grm_service.training.hints import whole_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (" it is right. The other", " it is right."),
        (" 2 + 2 is 4.0, not 4.5. Next", " 2 + 2 is 4.0, not 4.5."),
        (' it says "yes." That is it!\nScores: 9', ' it says "yes." That is it!'),
        (" 它是对的。另一个", " 它是对的。"),
        (" it has no end", ""),
        (":\n1. It is right.", ""),
        ("", ""),
    ],
)
def test_whole_sentences(text, sentences):
    assert whole_sentences(text) == sentences
