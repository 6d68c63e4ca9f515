"""The parser of critiques.

Each file in odd_outputs/ has the expected scores or error, a line with ---, and the model's output.
"""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm_service.judging import parse
from grm_service.profiles.profile import Scale
from grm_service.types import Principle
from tests.judging.profiles import PROFILE

ODD = sorted((Path(__file__).parent / "odd_outputs").glob("*.txt"))


@pytest.mark.parametrize("path", ODD, ids=lambda path: path.stem)
def test_odd_output(path):
    expected, _, text = path.read_text(encoding="utf-8").partition("\n---\n")
    try:
        read = ", ".join(f"{x:g}" for x in parse.parse(text.removesuffix("\n"), 2, PROFILE).scores)
    except parse.Unreadable as unreadable:
        read = unreadable.reason
    assert read == expected


def test_odd_outputs_exist():
    assert len(ODD) >= 25


def test_principles_analysis_and_scores():
    text = (
        "Specific Criteria:\n1. **Accuracy**: facts hold (Weight: 60%)\n2. Tone [weight: 0.4]\n   in full\n\n"
        "Analysis:\n- Response 1 is right.\n\nScores: \\boxed{7, 5}"
    )
    critique = parse.parse(text, 2, PROFILE)
    assert critique.principles == (Principle("Accuracy: facts hold", 0.6), Principle("Tone in full", 0.4))
    assert critique.analysis == "- Response 1 is right."
    assert critique.scores == (7.0, 5.0)


def test_unlabelled_text_is_analysis():
    critique = parse.parse("Good and bad.\nScores: \\boxed{7, 5}", 2, PROFILE)
    assert critique.principles == ()
    assert critique.analysis == "Good and bad."


def test_text_after_criteria_is_analysis():
    critique = parse.parse(
        "Specific Criteria:\n1. Short\n2. Right\nBoth are.\n\nScores: \\boxed{7, 5}", 2, PROFILE
    )
    assert [p.text for p in critique.principles] == ["Short", "Right"]
    assert critique.analysis == "Both are."


@pytest.mark.parametrize(
    ("line", "weight"),
    [
        ("1. A (Weight: 40%)", 0.4),
        ("- A, weight 0.4", 0.4),
        ("* A [Weight=40]", 0.4),
        ("A", None),
        ("1. A (weight: 400%)", None),
    ],
)
def test_weight_formats(line, weight):
    assert parse.parse_principles(line) == (Principle("A", weight),)


def test_lines_that_are_not_principles():
    text = "1. Right\n2. Right\n3. 1.1.1\n4. Clear\n#### Output ####\n5. Later"
    assert [p.text for p in parse.parse_principles(text)] == ["Right", "Clear"]


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        ("Both fine.\nScores: \\boxed{7,", "Both fine."),
        ("Both fine.\n**Scores:**", "Both fine."),
        ("Both fine.\nScores: \\boxed{x, x}", "Both fine."),
        ("Both fine.\n\\box", "Both fine."),
        ("Both fine, and", "Both fine, and"),
        ("", ""),
    ],
)
def test_partial_score_line_is_removed(cut, expected):
    assert parse.before_closing(cut, PROFILE) == expected


@given(st.lists(st.integers(1, 10), min_size=1, max_size=64))
def test_closing_regex_accepts_all_scores(scores):
    ending = ", ".join(map(str, scores)) + "}"
    assert re.fullmatch(parse.closing_regex(len(scores), Scale()), ending)
    read = parse.parse("Cut\n\nScores: \\boxed{" + ending, len(scores), PROFILE)
    assert read.scores == tuple(map(float, scores))


@pytest.mark.parametrize("ending", ["0, 1}", "11, 1}", "1, 1, 1}", "1}", "1,1}", "1, 1", "x, x}"])
def test_closing_regex_rejects_other_text(ending):
    assert not re.fullmatch(parse.closing_regex(2, Scale()), ending)


COMPARING = replace(PROFILE, comparison="\nAnalysis: Response #{{best}} is best (so far)")
ENDING = "\nAnalysis: Response #2 is best (so far), as it is right.\n\nScores: \\boxed{%s}"


@given(st.integers(2, 12), st.data())
def test_closing_agrees_with_the_best(n, data):
    best = data.draw(st.integers(1, n))
    halves = [st.integers(6, 10) if i == best else st.integers(1, 5) for i in range(1, n + 1)]
    scores = [data.draw(half) for half in halves]
    ending = ", ".join(map(str, scores)) + "}"
    assert re.fullmatch(parse.closing_regex(n, Scale(), best), ending)
    assert not re.fullmatch(parse.closing_regex(n, Scale(), best % n + 1), ending)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("Specific Criteria:\n1. Right\n2. Kind" + ENDING % "3, 8", True),
        (" is right" + ENDING % "5, 6", True),
        (ENDING % "1, 10", True),
        ("1. Right" + ENDING % "8, 3", False),
        ("1. Right" + ENDING % "8, 8", False),
        ("1. Right" + ENDING % "3, 8, 1", False),
        ("1. Right" + ENDING.replace("#2", "#3") % "3, 8", False),
        ("1. Right\nBoth are fine." + ENDING % "3, 8", False),
        ("1. Right" + ENDING % "3, 8" + "\nReally.", False),
    ],
)
def test_critique_regex(text, matches):
    regex = parse.critique_regex(2, COMPARING)
    assert bool(re.fullmatch(regex, text)) == matches
    if matches:
        critique = parse.parse(text, 2, COMPARING)
        assert critique.analysis.startswith("Response #2 is best")
        assert critique.scores[1] > critique.scores[0]


def test_without_a_comparison_there_is_no_critique_regex():
    assert parse.critique_regex(2, PROFILE) is None
    assert parse.critique_regex(1, COMPARING) is None


@pytest.mark.parametrize(
    ("text", "best"),
    [("1. Right" + ENDING, 2), ("1. Right", None), (ENDING.replace("#2", "#0"), None), ("", None)],
)
def test_named_best(text, best):
    assert parse.named_best(text, COMPARING) == best
    assert parse.named_best(text, PROFILE) is None


@given(st.text())
def test_parser_accepts_any_text(text):
    try:
        critique = parse.parse(text + "\nScores: \\boxed{3, 4}", 2, PROFILE)
    except parse.Unreadable as unreadable:
        assert unreadable.reason
    else:
        assert critique.scores == (3.0, 4.0)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("<answer>", "</answer>"),
        ("<answer>Final Answer: ", "</answer>"),
        ("<|begin_of_solution|>", "<|end_of_solution|>"),
        ("Final Answer: ", "<|im_end|>"),
    ],
)
def test_tags_around_the_answer(start, end):
    assert parse.parse(f"Fine.\n{start}\\boxed{{9, 2}}{end}", 2, PROFILE).scores == (9.0, 2.0)
    principles = parse.parse_principles(f"{start.removesuffix('Final Answer: ')}\n1. It is true.\n{end}")
    assert [principle.text for principle in principles] == ["It is true."]


@pytest.mark.parametrize(
    "heading", ["Here are the principles:", "**Principles:**\n", "以下原则：", "Sure, these fit.\n"]
)
def test_line_before_the_list_is_no_principle(heading):
    principles = parse.parse_principles(f"{heading}\n1. It is true:\n   in every part.\n2. It is short.")
    assert [principle.text for principle in principles] == ["It is true: in every part.", "It is short."]


@pytest.mark.parametrize(
    "number",
    ["9" * 5000, "1e999", "1e1", "0x1", "1_0", "٣", "५", "²", "①", "½", "Ⅴ", "𝟓", "五", "5" + "\u0301", "nan",
     "-inf", "5.", ".5", "--5", "5" * 10**6],
    ids=lambda number: number[:9],
)  # fmt: skip
def test_odd_number_is_no_score(number):
    with pytest.raises(parse.Unreadable):
        parse.parse(f"Scores: \\boxed{{{number}, 5}}", 2, PROFILE)


@pytest.mark.parametrize("number", ["9" * 5000, "1e999", "٣٣", "²", "999", "0.00001", "9" * 10**6])
def test_odd_weight_is_no_error(number):
    (principle,) = parse.parse_principles(f"1. It is right. (Weight: {number}%)")
    assert principle.text.startswith("It is right")
    assert principle.weight is None or 0 <= principle.weight <= 1


def test_long_box_is_refused():
    with pytest.raises(parse.Unreadable, match="wrong_count"):
        parse.parse("Scores: \\boxed{" + "5, " * 5000 + "5}", 2, PROFILE)


def test_label_is_read_after_a_long_line():
    critique = parse.parse("It is right. " * 1000 + " " * 500 + "Scores: \\boxed{5, 6}", 2, PROFILE)
    assert critique.scores == (5, 6)


def test_loop_of_principles_is_cut():
    loop = "\n".join(f"1. Principle {i % 3} of a loop." for i in range(100_000))
    assert len(parse.parse_principles(loop + "\n2. Another one.")) == 3
