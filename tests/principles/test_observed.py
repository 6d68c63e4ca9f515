"""What judges write as principles, counted over verdicts."""

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


def sample(*said, scores=(8, 3), counted=True):
    own = tuple(Principle(*each) if isinstance(each, tuple) else Principle(each) for each in said)
    return Sample(0, 0, (), critique=Critique(own, "", tuple(map(float, scores))), counted=counted)


def verdict(*samples, given=()):
    rows = [each.scores for each in samples if each.counted]
    return Verdict(
        status="ok", profile="p", fingerprint="", model="m", vote=vote(rows), k=len(samples), stopped=None,
        samples=samples, principles=tuple(map(Principle, given)), usage=Usage(), judge_s=0.0,
    )  # fmt: skip


def seen(*judged, **options):
    found = observe([each if len(each) == 3 else (each[0], "self", each[1]) for each in judged], **options)
    return found, {each.text: each for each in found.principles}


def test_near_identical_wordings_are_one_principle_in_the_words_that_came_first():
    found, by_text = seen(
        (CODE, verdict(sample("The code runs.", "1. **The code runs** (Weight: 40%)"), sample("code runs"))),
        (MATHS, verdict(sample("A good response is: code runs!"), sample("The sum is right."))),
    )
    assert (found.verdicts, found.samples) == (2, 4)
    assert [(each.text, each.count, each.share) for each in found.principles] == [
        ("The code runs.", 3, 0.75),
        ("The sum is right.", 1, 0.25),
    ]
    assert by_text["The code runs."].kinds == {"code": 2, "maths": 1}


def test_the_weight_is_the_mean_of_those_that_were_stated():
    _, by_text = seen(
        (
            CODE,
            verdict(
                sample(("It runs.", 0.2), "Never stated."), sample(("It runs.", 0.6)), sample("It runs.")
            ),
        ),
    )
    assert by_text["It runs."].weight == pytest.approx(0.4)
    assert by_text["Never stated."].weight is None


def test_a_win_is_a_sample_whose_own_top_is_the_best_of_the_verdict():
    _, by_text = seen(
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


@pytest.mark.parametrize("rows", [[(8, 3), (3, 8)], [(8,)]], ids=["no best", "nothing to choose from"])
def test_without_a_choice_there_is_no_win_rate(rows):
    _, by_text = seen((CODE, verdict(*(sample("It runs.", scores=row) for row in rows))))
    assert by_text["It runs."].count == len(rows)
    assert (by_text["It runs."].wins, by_text["It runs."].win_rate) == (0, None)


def test_soft_scores_are_what_a_sample_chose_by():
    soft = replace(sample("It runs.", scores=(5, 5)), expected=(5.2, 4.9))
    _, by_text = seen((CODE, verdict(soft)))
    assert by_text["It runs."].win_rate == 1


def test_principles_of_the_query_are_stated_by_every_sample_that_judged_by_them():
    found, by_text = seen((CODE, "query", verdict(sample("Mine."), sample(), UNREADABLE, given=["It runs."])))
    assert found.samples == 2
    assert {text: each.count for text, each in by_text.items()} == {"It runs.": 2}


def test_what_people_gave_is_not_counted_as_written_by_the_judge():
    found, by_text = seen(
        (CODE, "fixed", verdict(sample("It runs."), given=["It runs."])),
        (
            CODE,
            "self",
            verdict(sample("The response states the facts!", "It runs."), given=["It states the facts."]),
        ),
    )
    assert (found.verdicts, found.samples, set(by_text)) == (1, 1, {"It runs."})


def test_flags_are_the_rules_that_the_words_break():
    _, by_text = seen(
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
def test_a_principle_is_ungrounded_where_most_of_its_queries_speak_of_something_else(strays, flags):
    text = "Counts the trains between the museum and Berlin."
    about = ("How many trains go to Berlin?", verdict(sample(text)))
    _, by_text = seen(about, *[("Which of these poems is older?", verdict(sample(text)))] * strays)
    assert by_text[text].flags == flags


def test_what_reviewers_said_stands_beside_the_principle():
    _, by_text = seen(
        (CODE, verdict(sample("The code runs.", "It is fun."))), unsound={normalise("the code runs"): 2}
    )
    assert (by_text["The code runs."].unsound, by_text["It is fun."].unsound) == (2, 0)


def test_the_most_frequent_are_given_and_rare_ones_are_forgotten_where_there_are_too_many(monkeypatch):
    monkeypatch.setattr(observed, "KEPT", 10)
    often = (CODE, verdict(*[sample("It runs.", "It halts.")] * 5))
    rare = [(CODE, verdict(sample(f"Names number {i}."))) for i in range(100)]
    found, by_text = seen(often, *rare, often, most=3)
    assert found.samples == 110
    assert [each.count for each in found.principles] == [10, 10, 1]
    assert {"It runs.", "It halts."} < set(by_text)


def test_long_texts_are_cut():
    _, by_text = seen((CODE, verdict(sample("very " * 10_000))))
    assert [len(text) for text in by_text] == [1000]


def test_of_nothing_nothing_is_observed():
    assert seen()[0] == observed.Observations(0, 0, ())
    assert seen((CODE, verdict(sample("..."))))[0] == observed.Observations(1, 1, ())


@given(st.lists(st.tuples(st.text(), st.lists(st.text(), max_size=4)), max_size=5))
def test_any_text_can_be_observed(judged):
    found, _ = seen(*((query, verdict(sample(*said))) for query, said in judged))
    assert found.verdicts == len(judged)
    for each in found.principles:
        assert 0 < each.count == sum(each.kinds.values()) <= found.samples
