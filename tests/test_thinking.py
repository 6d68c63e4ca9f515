"""Thinking is separated from the answer, whatever tags a model and its chat template use."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from grm_service.thinking import (
    _BARE_END,
    USUAL_TAGS,
    _patterns,
    join_thinking,
    opens_thinking,
    split_thinking,
)
from grm_service.types import Thinking

DRAFT = "Scores: \\boxed{2, 9}"
ANSWER = "Scores: \\boxed{9, 2}"


@pytest.mark.parametrize(("start", "end"), USUAL_TAGS)
def test_usual_tags_are_recognized(start, end):
    closed = Thinking(DRAFT, tags=(start, end))
    assert split_thinking(f"{start}\n{DRAFT}\n{end}\n\n{ANSWER}") == (closed, ANSWER)
    assert split_thinking(f"{DRAFT}\n{end}\n\n{ANSWER}") == (closed, ANSWER)
    assert split_thinking(f"{start}\n{DRAFT}") == (Thinking(DRAFT, cut=True, tags=(start, end)), "")
    assert opens_thinking(f"<|assistant|>{start}\n") == (start, end)


@pytest.mark.parametrize(
    ("text", "thought", "answer", "cut"),
    [
        ("<think></think>\n\nA", "", "A", False),
        ("<THINK>d</THINK>A", "d", "A", False),
        ("<think>d</think>A <think>e</think>B", "d\n\ne", "A \nB", False),
        ("<think>d</think>A <think>e", "d\n\ne", "A", True),
        ("A <think>e", "e", "A", True),
        ("<think>d</thinking>A", "d", "A", False),
        ("<think>d <reasoning>x</reasoning> e</think>A", "d x e", "A", False),
        ("<think>d</think>e</think>A", "d\n\ne", "A", False),
        ("<think>d<think>e</think>A", "de", "A", False),
        ("<think>d</think>", "d", "", False),
        ("</think>A", "", "A", False),
    ],
)
def test_odd_tags(text, thought, answer, cut):
    thinking, rest = split_thinking(text)
    assert thinking is not None
    assert (thinking.text, rest, thinking.cut) == (thought, answer, cut)


def test_text_without_tags_is_unchanged():
    assert split_thinking(f"  {ANSWER}\n") == (None, f"  {ANSWER}\n")


def test_channels_without_their_special_tokens():
    """gpt-oss behind a server that skips special tokens."""
    thinking, answer = split_thinking(f"analysisWe see. {DRAFT}assistantfinal{ANSWER}")
    assert (thinking.text, thinking.cut, answer) == (f"We see. {DRAFT}", False, ANSWER)
    thinking, answer = split_thinking(f"analysisWe see. {DRAFT}")
    assert (thinking.text, thinking.cut, answer) == (f"We see. {DRAFT}", True, "")
    assert split_thinking(f"Analysis: fine\n{ANSWER}")[0] is None
    assert split_thinking(f"analysis\n{ANSWER}")[0] is None


@pytest.mark.parametrize("text", [DRAFT, f"x <reasoning>y</reasoning> {DRAFT}", f"<think>{DRAFT}"])
def test_text_that_begins_inside_thinking(text):
    """The chat template wrote the start tag, and the text has no end tag."""
    thinking, answer = split_thinking(text, opened=True)
    assert answer == ""
    assert thinking is not None
    assert thinking.cut


def test_profile_tags_are_recognized_too():
    tags = (("<plan>", "</plan>"),)
    assert split_thinking(f"<plan>{DRAFT}</plan>{ANSWER}", tags) == (Thinking(DRAFT, tags=tags[0]), ANSWER)
    assert split_thinking(f"<think>{DRAFT}</think>{ANSWER}", tags) == (Thinking(DRAFT), ANSWER)


def test_joined_thinking_splits_again():
    thinking = Thinking("First A.\nThen B.")
    assert split_thinking(join_thinking(thinking, ANSWER)) == (thinking, ANSWER)
    assert join_thinking(None, ANSWER) == ANSWER


@given(st.text(), st.text(), st.sampled_from(USUAL_TAGS))
def test_nothing_before_an_end_tag_is_answer(before, after, tags):
    _, answer = split_thinking(f"{before}DRAFT{tags[1]}{after}")
    assert "DRAFT" not in answer


@given(st.text(), st.text(), st.sampled_from(USUAL_TAGS))
def test_nothing_after_a_start_tag_is_answer(before, after, tags):
    # Hypothesis tries tags too, as constants of the module: any end tag ends the thinking.
    assume(not any(end.search(f"{after}DRAFT") for end in (_patterns(())[1], _BARE_END)))
    _, answer = split_thinking(f"{before}{tags[0]}{after}DRAFT")
    assert "DRAFT" not in answer


def test_start_tag_of_an_opened_prompt_may_be_repeated():
    assert split_thinking("<think>\nHm.</think>Yes.", opened=True) == (Thinking("Hm."), "Yes.")
    assert split_thinking("<think>\nHm.", opened=True) == (Thinking("Hm.", cut=True), "")


def test_tags_of_gemma():
    thinking, answer = split_thinking("<|channel>thought\nHm.\n<channel|>Yes.")
    assert (thinking.text, answer) == ("Hm.", "Yes.")


@pytest.mark.parametrize("tags", ["<think>", "</think>", "<think>x</think>", "<think></reasoning>"])
def test_looping_model_is_split_in_linear_time(tags):
    """A quadratic search would take hours."""
    thinking, answer = split_thinking(tags * 200_000)
    assert thinking is not None
    assert answer.strip() == ""
