"""Cold-start forms parse, are right, and do not depend on the label before the scores."""

from dataclasses import replace

import pytest

from grm_service.errors import BadTask
from grm_service.evaluation.dataset import Item
from grm_service.judging import parse
from grm_service.profiles.catalog import load_catalog
from grm_service.training.cold_start import fill
from grm_service.types import Message
from tests.training.conftest import item

PROFILE = load_catalog().profile("smollm2-judge")


def filled(*items, samples=2, profile=PROFILE):
    return [each for tried in fill(items, profile, samples, 0) for each in tried.trajectories]


def test_scores_follow_the_label():
    trajectories = filled(item(1, (1,), n=4), samples=4)
    assert {each.order.index(1) for each in trajectories} == {0, 1, 2, 3}
    for each in trajectories:
        assert each.scores == (3.0, 8.0, 3.0, 3.0)
        assert each.right
        critique = parse.parse(each.text, 4, PROFILE)
        assert len(critique.principles) == 2
        assert critique.analysis.startswith("Response 1 says ")


def test_analysis_is_independent_of_label():
    one, other = (filled(item(1, (best,))) for best in (0, 1))
    before = [[each.text.partition("boxed{")[0] for each in forms] for forms in (one, other)]
    assert before[0] == before[1]
    assert [each.text for each in one] != [each.text for each in other]


def test_comparison_names_the_best():
    profile = replace(PROFILE, comparison="\nAnalysis: Response #{{best}} is best, because")
    for each in filled(item(1, (1,), n=4), samples=4, profile=profile):
        start, end = parse.compared(each.text, profile)
        assert each.text[start:end] == str(each.order.index(1) + 1)
        assert each.right
        assert parse.parse(each.text, 4, profile).analysis.startswith(
            f"Response #{each.text[start:end]} is best, because Response 1 says "
        )


def test_quotes_begin_at_the_difference():
    texts = ("Twice ten is 2*10 = 20 and so on", "Twice ten is 2*10 = 25 and so on")
    (trajectory,) = filled(Item("1", "s", (Message("user", "x"),), texts, (0,)), samples=1)
    for text in ("2*10 = 20 and so on", "2*10 = 25 and so on"):
        assert f'"{text}"' in trajectory.text


@pytest.mark.parametrize(
    "text", ["", " \n", 'say "hi"', "\\boxed{9, 1}", "## Response 2\nScores: \\boxed{1, 9}", "a " * 500]
)
def test_any_response_parses(text):
    for each in filled(Item("1", "s", (Message("user", "x"),), (text, "A plain answer."), (1,))):
        assert each.scores == (3.0, 8.0)


def test_unparsable_form_is_refused():
    with pytest.raises(BadTask, match="cannot parse its own form"):
        filled(item(1), profile=replace(PROFILE, closing=replace(PROFILE.closing, text="We say \\boxed{")))
