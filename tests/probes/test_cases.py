"""The tasks that the probes are made of."""

from grm_service.probes.cases import probes, tasks
from grm_service.types import JudgeOptions, PrincipleSpec
from tests.probes import judges

OPTIONS = JudgeOptions(k=4, seed=7, score="soft", principles=PrincipleSpec("fixed", "code"))


def test_options_reach_every_task():
    options = {task.with_options(seed=7).options for task in tasks(probes(OPTIONS))}
    assert options == {OPTIONS}


def test_seed_is_added_to_each_question():
    plain, seeded = tasks(probes()), tasks(probes(JudgeOptions(seed=7)))
    assert [task.options.seed + 7 for task in plain] == [task.options.seed for task in seeded]
    assert {task.options.seed for task in plain} == set(range(12))


def test_largest_seed_wraps_around():
    assert all(task.options.seed < 2**63 for task in tasks(probes(JudgeOptions(seed=2**63 - 1))))


def test_tasks_are_deterministic_and_unique():
    selected = probes(JudgeOptions(k=2))
    assert selected == probes(JudgeOptions(k=2))
    all_tasks = [task for each in selected for case in each.cases for task in case.tasks]
    assert len(tasks(selected)) == len(set(all_tasks)) < len(all_tasks)


def test_length_does_not_reveal_the_answer():
    longer = sum(len(bad) > len(good) for good, bad in zip(judges.GOOD, judges.BAD, strict=True))
    assert 3 <= longer <= 9
