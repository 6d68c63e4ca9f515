"""Statistics of the judge's own principles."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm_service.judging.vote import vote
from grm_service.principles import observed
from grm_service.principles.observed import observe
from grm_service.principles.wording import normalise
from grm_service.types import Critique, Principle, Sample, Usage, Verdict

CODE, MATHS = "Write a Python function that sorts names.", "What is 17 * 3?"
UNREADABLE = Sample(0, 0, (), error="no_scores")


def sample(*principles, scores=(8, 3), counted=True):
    own = tuple(Principle(*each) if isinstance(each, tuple) else Principle(each) for each in principles)
    return Sample(0, 0, (), critique=Critique(own, "", tuple(map(float, scores))), counted=counted)


def verdict(*samples, in_prompt=()):
    rows = [each.scores for each in samples if each.counted]
    return Verdict(
        status="ok", profile="p", fingerprint="", model="m", vote=vote(rows), k=len(samples), stopped=None,
        samples=samples, principles=tuple(map(Principle, in_prompt)), usage=Usage(), judge_s=0.0,
    )  # fmt: skip


def observed_in(*judged, **options):
    result = observe([each if len(each) == 3 else (each[0], "self", each[1]) for each in judged], **options)
    return result, {each.text: each for each in result.principles}


def test_similar_wordings_are_merged():
    result, by_text = observed_in(
        (CODE, verdict(sample("The code runs.", "1. **The code runs** (Weight: 40%)"), sample("code runs"))),
        (MATHS, verdict(sample("A good response is: code runs!"), sample("The sum is right."))),
    )
    assert (result.verdicts, result.samples) == (2, 4)
    assert [(each.text, each.count, each.share) for each in result.principles] == [
        ("The code runs.", 3, 0.75),
        ("The sum is right.", 1, 0.25),
    ]
    assert by_text["The code runs."].kinds == {"code": 2, "maths": 1}


def test_weight_is_mean_of_stated():
    _, by_text = observed_in(
        (
            CODE,
            verdict(
                sample(("It runs.", 0.2), "Never stated."), sample(("It runs.", 0.6)), sample("It runs.")
            ),
        ),
    )
    assert by_text["It runs."].weight == pytest.approx(0.4)
    assert by_text["Never stated."].weight is None


def test_win_is_top_equal_to_best():
    _, by_text = observed_in(
        (
            CODE,
            verdict(
                sample("It runs.", scores=(9, 1)),
                sample("It runs.", scores=(8, 2)),
                sample("It runs.", scores=(3, 4)),
                sample("It runs.", "It ties.", scores=(5, 5)),
                sample("It runs.", "It was left out.", scores=(1, 9), counted=False),
            ),
        )
    )
    assert (by_text["It runs."].count, by_text["It runs."].wins) == (5, 2)
    assert by_text["It runs."].win_rate == pytest.approx(2 / 3)
    for text in ("It ties.", "It was left out."):
        assert (by_text[text].count, by_text[text].wins, by_text[text].win_rate) == (1, 0, None)


@pytest.mark.parametrize("rows", [[(8, 3), (3, 8)], [(8,)]], ids=["tie", "single response"])
def test_no_choice_no_win_rate(rows):
    _, by_text = observed_in((CODE, verdict(*(sample("It runs.", scores=row) for row in rows))))
    assert by_text["It runs."].count == len(rows)
    assert (by_text["It runs."].wins, by_text["It runs."].win_rate) == (0, None)


def test_soft_scores_decide_the_win():
    soft = replace(sample("It runs.", scores=(5, 5)), expected=(5.2, 4.9))
    _, by_text = observed_in((CODE, verdict(soft)))
    assert by_text["It runs."].win_rate == 1


def test_query_principles_count_for_each_sample():
    result, by_text = observed_in(
        (CODE, "query", verdict(sample("Mine."), sample(), UNREADABLE, in_prompt=["It runs."]))
    )
    assert result.samples == 2
    assert {text: each.count for text, each in by_text.items()} == {"It runs.": 2}


def test_human_principles_are_not_counted():
    result, by_text = observed_in(
        (CODE, "fixed", verdict(sample("It runs."), in_prompt=["It runs."])),
        (
            CODE,
            "self",
            verdict(sample("The response states the facts!", "It runs."), in_prompt=["It states the facts."]),
        ),
    )
    assert (result.verdicts, result.samples, set(by_text)) == (1, 1, {"It runs."})


def test_flags_are_lint_rules():
    _, by_text = observed_in(
        (
            CODE,
            verdict(*[sample("It is engaging.", "Names the museum in Berlin.", "The code sorts names.")] * 2),
        ),
        (CODE, verdict(sample("The code sorts all of the names."))),
    )
    flags = {text: each.flags for text, each in by_text.items()}
    assert flags == {
        "It is engaging.": ("subjective",),
        "Names the museum in Berlin.": (),
        "The code sorts names.": (),
        "The code sorts all of the names.": ("redundant",),
    }


@pytest.mark.parametrize(("strays", "flags"), [(1, ()), (3, ("ungrounded",))])
def test_mostly_unrelated_principle_is_ungrounded(strays, flags):
    text = "Counts the trains between the museum and Berlin."
    about = ("How many trains go to Berlin?", verdict(sample(text)))
    _, by_text = observed_in(about, *[("Which of these poems is older?", verdict(sample(text)))] * strays)
    assert by_text[text].flags == flags


def test_unsound_reviews_are_counted():
    _, by_text = observed_in(
        (CODE, verdict(sample("The code runs.", "It is fun."))), unsound={normalise("the code runs"): 2}
    )
    assert (by_text["The code runs."].unsound, by_text["It is fun."].unsound) == (2, 0)


def test_rare_groups_are_dropped(monkeypatch):
    monkeypatch.setattr(observed, "MAX_GROUPS", 10)
    often = (CODE, verdict(*[sample("It runs.", "It halts.")] * 5))
    rare = [(CODE, verdict(sample(f"Names number {i}."))) for i in range(100)]
    result, by_text = observed_in(often, *rare, often, limit=3)
    assert result.samples == 110
    assert [each.count for each in result.principles] == [10, 10, 1]
    assert {"It runs.", "It halts."} < set(by_text)


def test_long_texts_are_cut():
    _, by_text = observed_in((CODE, verdict(sample("very " * 10_000))))
    assert [len(text) for text in by_text] == [1000]


def test_no_principles_no_observations():
    assert observed_in()[0] == observed.Observations(0, 0, ())
    assert observed_in((CODE, verdict(sample("..."))))[0] == observed.Observations(1, 1, ())


@given(st.lists(st.tuples(st.text(), st.lists(st.text(), max_size=4)), max_size=5))
def test_any_text_can_be_observed(judged):
    result, _ = observed_in(*((query, verdict(sample(*principles))) for query, principles in judged))
    assert result.verdicts == len(judged)
    for each in result.principles:
        assert 0 < each.count == sum(each.kinds.values()) <= result.samples
