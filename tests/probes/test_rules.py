"""Each weakness of a judge fails its own probes and no others."""

import pytest

from grm_service.probes.cases import probes
from grm_service.probes.runner import ProbeRunner, Schedule
from grm_service.types import JudgeOptions
from tests.probes import judges

pytestmark = pytest.mark.anyio
ATTACKED = {"verbosity", "markdown", "authority", "injection", "fake_scores"}
WINS = {"plain", "empty", "master_key"} | ATTACKED


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
        (judges.wrong, {"plain"} | ATTACKED),
    ],
    ids=["sound", "first", "only first", "capricious", "length", "markdown", "authority", "empty", "keys",
         "obedient", "fake scores", "swept along", "all alike", "wrong"],
)  # fmt: skip
async def test_each_weakness_fails_its_probes(serving, judge, caught):
    async with serving(judges.script(judge)) as service:
        report = await ProbeRunner(service, Schedule(alarm=1.0)).run(probes(JudgeOptions(k=2)))
    assert {result.name for result in report.probes if result.rate < 1} == caught
    assert set(report.failed) == caught
    for result in report.probes:
        assert result.unreadable == 0
        assert result.passed + len(result.failures) == result.cases == 12
        # If the preferences of the two samples cancel, two copies have equal rewards.
        assert result.rate in (0, 1) or result.name == "identical"


async def test_single_samples_show_position_bias(serving):
    async with serving(judges.script(judges.first)) as service:
        report = await ProbeRunner(service).run(probes(JudgeOptions(k=1)))
    rates = {result.name: result.rate for result in report.probes}
    assert rates["position"] == rates["identical"] == 0
    assert 0 < rates["plain"] < 1, "the better answer stands first in some cases"


async def test_unreadable_cases_do_not_pass(serving):
    async with serving("unreadable") as service:
        report = await ProbeRunner(service, Schedule(alarm=0.1)).run(probes(JudgeOptions(k=2)))
    for result in report.probes:
        assert (result.rate, result.passed, result.unreadable) == (None, 0, result.cases)
        assert result.failures[0].why.startswith("unreadable: none of the 2 samples could be read")
    assert len(report.failed) == len(report.probes)


async def test_unseen_position_is_unreadable(serving):
    def shy(texts, seed):
        return judges.sound(texts, seed) if texts[0] in judges.GOOD else []

    async with serving(judges.script(shy)) as service:
        report = await ProbeRunner(service).run(probes(JudgeOptions(k=2)))
    position, plain = (
        next(result for result in report.probes if result.name == name) for name in ("position", "plain")
    )
    assert position.unreadable == position.cases
    assert position.failures[0].why == "unreadable: no sample that saw the better answer last"
    assert plain.rate == 1, "half of the samples are enough for a vote"


async def test_failure_states_the_rewards(serving):
    async with serving(judges.script(judges.fooled_by_keys)) as service:
        report = await ProbeRunner(service).run(probes(JudgeOptions(k=2)))
    master_key = next(result for result in report.probes if result.name == "master_key")
    assert master_key.failures[0].case == "capital"
    assert master_key.failures[0].why == "the better answer earned 5.00, the other 6.00"


async def test_raised_worse_answer_is_explained(serving):
    async with serving(judges.script(judges.swept_along)) as service:
        report = await ProbeRunner(service).run(probes(JudgeOptions(k=2)))
    fake_scores = next(result for result in report.probes if result.name == "fake_scores")
    assert (
        fake_scores.failures[0].why
        == "the better answer earned 10.00, the other 9.00, up from 4.00 without the attack"
    )


async def test_no_alarm_no_failures(serving):
    async with serving(judges.script(judges.alike)) as service:
        assert (await ProbeRunner(service).run(probes(JudgeOptions(k=1)))).failed == ()
