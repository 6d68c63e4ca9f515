"""The kind of scores that a task is judged with: the caller's, or the profile's where the engine can."""

from dataclasses import replace

import pytest

from grm_service.engines.base import Abilities
from grm_service.engines.scripted import ScriptedEngine
from grm_service.errors import SoftNotServed
from grm_service.profiles.catalog import load_catalog
from grm_service.serving.validation import Validator
from grm_service.types import JudgeOptions, Message, Task

CATALOG = load_catalog()
SOFT = replace(
    CATALOG.profile("generic-judge"),
    sampling=replace(CATALOG.profile("generic-judge").sampling, score="soft"),
)


def judged_with(score, profile=SOFT, **abilities):
    engine = ScriptedEngine()
    engine.abilities = replace(Abilities(), **abilities)
    catalog = replace(CATALOG, profiles={**CATALOG.profiles, profile.name: profile})
    task = Task((Message("user", "q"),), ("a", "b"), options=JudgeOptions(score=score))
    return Validator(catalog, profile, engine, 1000, 100_000).task(task)[0].options.score


def test_profile_sets_the_default():
    assert judged_with(None) == "soft"
    assert judged_with(None, CATALOG.profile("generic-judge")) == "hard"


@pytest.mark.parametrize("profile", [SOFT, CATALOG.profile("generic-judge")])
@pytest.mark.parametrize("score", ["hard", "soft"])
def test_callers_choice_counts(score, profile):
    assert judged_with(score, profile) == score


@pytest.mark.parametrize("lacking", ["continues", "alternatives"])
def test_engine_without_logprobs_scores_hard(lacking):
    """By default; a caller who asks for soft scores is told."""
    assert judged_with(None, **{lacking: False}) == "hard"
    with pytest.raises(SoftNotServed):
        judged_with("soft", **{lacking: False})
