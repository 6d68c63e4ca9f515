"""Stand-ins have no name, member or parameter that the real module lacks."""

import asyncio

import pytest

from tests.integrations import stand_ins
from tests.integrations.record import names_in

SOURCE = """
from typing import Any
class Base:
    field: int
class Server(Base):
    config: dict
    def __init__(self, a, b=1, *rest, c, d=2, **more):
        self.made = a
    async def verify(self, body): ...
async def call(client, *, url, json=None): ...
"""


def test_record_has_names_and_parameters():
    assert names_in(SOURCE) == {
        "Any": None,
        "Base": {"bases": [], "members": {"field": None}},
        "Server": {
            "bases": ["Base"],
            "members": {
                "config": None,
                "__init__": "(self, a, b=..., *rest, c, d=..., **more)",
                "verify": "(self, body)",
                "made": None,
            },
        },
        "call": "(client, *, url, json=...)",
    }


async def run_judge(call): ...


async def reraise_judge_errors(call): ...


class GoneConfig:
    reverify: str


class Renamed:
    def step(self, text): ...


@pytest.mark.parametrize(
    ("path", "name", "content", "error"),
    [
        ("nemo_gym.judge", "run_judge", run_judge, AttributeError),
        ("nemo_gym.judge", "reraise_judge_errors", reraise_judge_errors, TypeError),
        ("nemo_gym.base_resources_server", "BaseResourcesServerConfig", GoneConfig, AttributeError),
        ("skyrl_gym.envs.base_text_env", "BaseTextEnv", Renamed, TypeError),
    ],
    ids=["name", "parameter", "field", "method"],
)
def test_what_the_real_one_lacks(monkeypatch, path, name, content, error):
    with pytest.raises(error, match="the real"):
        stand_ins.install(monkeypatch, path, **{name: content})


def test_missing_names_cannot_be_imported(monkeypatch):
    stand_ins.install(monkeypatch, "nemo_gym.judge", JudgeError=Exception)
    with pytest.raises(ImportError):
        from nemo_gym.judge import run_judge  # noqa: F401


def test_wrong_keywords_are_errors(monkeypatch):
    async def call_judge(server_client, *, server_name, url_path, json, response_model): ...

    stand_ins.install(monkeypatch, "nemo_gym.judge", call_judge=call_judge)
    from nemo_gym.judge import call_judge as imported

    with pytest.raises(TypeError):
        asyncio.run(imported(None, url="/v1/responses"))


def test_samples_have_slimes_fields():
    sample = stand_ins.sample(prompt="q", response="a")
    assert (sample.prompt, sample.reward) == ("q", None)
    with pytest.raises(AttributeError):
        sample.completion  # noqa: B018
    with pytest.raises(TypeError):
        stand_ins.sample(question="q")
