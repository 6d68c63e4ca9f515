"""Each probe tells its own weakness from a sound judge, and from every other weakness."""

import pytest

from grm_service.probes.cases import probes, tasks
from grm_service.probes.runner import ProbeRunner, Schedule
from tests.probes import judges

pytestmark = pytest.mark.anyio
DRESSED = {"verbosity", "markdown", "authority", "injection", "fake_scores"}
WINS = {"plain", "empty", "master_key"} | DRESSED


@pytest.mark.parametrize(
    ("judge", "caught"),
    [
        (judges.sound, set()),
        (judges.first, {"position"}),
        (judges.only_first, {"position"} | WINS),
        (judges.capricious, {"identical"}),
        (judges.fond_of_length, {"verbosity"}),
        (judges.fond_of_markdown, {"markdown"}),
        (judges.respectful, {"authority"}),
        (judges.fond_of_nothing, {"empty"}),
        (judges.fooled_by_keys, {"master_key"}),
        (judges.obedient, {"injection"}),
        (judges.fooled_by_scores, {"fake_scores"}),
        (judges.swept_along, {"fake_scores"}),
        (judges.alike, WINS),
        (judges.wrong, {"plain"} | DRESSED),
    ],
    ids=["sound", "first", "only first", "capricious", "length", "markdown", "authority", "empty", "keys",
         "obedient", "fake scores", "swept along", "all alike", "wrong"],
)  # fmt: skip
async def test_a_judge_is_caught_by_exactly_the_probes_of_its_weakness(serving, judge, caught):
    async with serving(judges.script(judge)) as service:
        report = await ProbeRunner(service, Schedule(alarm=1.0)).run(probes(k=2))
    assert {result.name for result in report.probes if result.rate < 1} == caught
    assert set(report.failed) == caught
    for result in report.probes:
        assert result.unreadable == 0
        assert result.passed + len(result.failures) == result.cases == 12
        # Where the whims of its two samples make up for each other, two copies do earn the same.
        assert result.rate in (0, 1) or result.name == "identical"


async def test_a_single_sample_shows_a_preference_for_a_place_everywhere(serving):
    async with serving(judges.script(judges.first)) as service:
        report = await ProbeRunner(service).run(probes(k=1))
    rates = {result.name: result.rate for result in report.probes}
    assert rates["position"] == rates["identical"] == 0
    assert 0 < rates["plain"] < 1, "the better answer stands first in some cases"


async def test_what_could_not_be_read_has_neither_passed_nor_failed_and_vouches_for_nothing(serving):
    async with serving("unreadable") as service:
        report = await ProbeRunner(service, Schedule(alarm=0.1)).run(probes(k=2))
    for result in report.probes:
        assert (result.rate, result.passed, result.unreadable) == (None, 0, result.cases)
        assert result.failures[0].why.startswith("unreadable: none of the 2 samples could be read")
    assert len(report.failed) == len(report.probes)


async def test_a_place_that_no_readable_sample_saw_is_told_as_unreadable(serving):
    def shy(texts, seed):
        return judges.sound(texts, seed) if texts[0] in judges.GOOD else []

    async with serving(judges.script(shy)) as service:
        report = await ProbeRunner(service).run(probes(k=2))
    position, plain = (
        next(result for result in report.probes if result.name == name) for name in ("position", "plain")
    )
    assert position.unreadable == position.cases
    assert position.failures[0].why == "unreadable: no sample that saw the better answer last"
    assert plain.rate == 1, "half of the samples are enough for a vote"


async def test_a_failure_says_what_the_judge_gave(serving):
    async with serving(judges.script(judges.fooled_by_keys)) as service:
        report = await ProbeRunner(service).run(probes(k=2))
    found = next(result for result in report.probes if result.name == "master_key")
    assert found.failures[0].case == "capital"
    assert found.failures[0].why == "the better answer earned 5.00, the other 6.00"


async def test_a_worse_answer_that_was_helped_without_winning_says_so(serving):
    async with serving(judges.script(judges.swept_along)) as service:
        report = await ProbeRunner(service).run(probes(k=2))
    found = next(result for result in report.probes if result.name == "fake_scores")
    assert found.failures[0].why == "the better answer earned 10.00, the other 9.00, up from 4.00 undressed"


async def test_without_an_alarm_nothing_is_told_as_failed(serving):
    async with serving(judges.script(judges.alike)) as service:
        assert (await ProbeRunner(service).run(probes(k=1))).failed == ()


def test_the_same_probes_are_put_every_time_and_each_task_once():
    asked = probes(k=2)
    assert asked == probes(k=2)
    posed = [task for each in asked for case in each.cases for task in case.tasks]
    assert len(tasks(asked)) == len(set(posed)) < len(posed)


def test_the_worse_answers_are_not_given_away_by_their_length():
    longer = sum(len(bad) > len(good) for good, bad in zip(judges.GOOD, judges.BAD, strict=True))
    assert 3 <= longer <= 9
