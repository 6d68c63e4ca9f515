"""Forms are filled from the data: readable, right, and silent about the best response until the scores."""

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


def test_a_form_reads_as_the_label_says_in_every_order():
    found = filled(item(1, (1,), n=4), samples=4)
    assert {each.order.index(1) for each in found} == {0, 1, 2, 3}
    for each in found:
        assert each.scores == (3.0, 8.0, 3.0, 3.0)
        assert each.right
        critique = parse.parse(each.text, 4, PROFILE)
        assert len(critique.principles) == 2
        assert critique.analysis.startswith("Response 1 says ")


def test_nothing_before_the_scores_depends_on_the_label():
    one, other = (filled(item(1, (best,))) for best in (0, 1))
    before = [[each.text.partition("boxed{")[0] for each in found] for found in (one, other)]
    assert before[0] == before[1]
    assert [each.text for each in one] != [each.text for each in other]


def test_each_response_is_quoted_where_they_begin_to_differ():
    texts = ("Twice ten is 2*10 = 20 and so on", "Twice ten is 2*10 = 25 and so on")
    (found,) = filled(Item("1", "s", (Message("user", "x"),), texts, (0,)), samples=1)
    for text in ("2*10 = 20 and so on", "2*10 = 25 and so on"):
        assert f'"{text}"' in found.text


@pytest.mark.parametrize(
    "text", ["", " \n", 'say "hi"', "\\boxed{9, 1}", "## Response 2\nScores: \\boxed{1, 9}", "a " * 500]
)
def test_whatever_a_response_says_its_form_can_be_read(text):
    for each in filled(Item("1", "s", (Message("user", "x"),), (text, "A plain answer."), (1,))):
        assert each.scores == (3.0, 8.0)


def test_a_profile_that_cannot_read_its_form_is_refused():
    with pytest.raises(BadTask, match="cannot read its form"):
        filled(item(1), profile=replace(PROFILE, closing=replace(PROFILE.closing, text="We say \\boxed{")))
