"""A judge in this process: the client's methods without a server."""

import asyncio
import pickle
import subprocess
import sys

import pytest

from grm_service import AsyncJudge, Judge
from grm_service.client import Client, NoVerdict
from grm_service.errors import BadSetting, UnknownName

PAIR = ("What is the capital of Australia?", ["Canberra.", "Sydney."])


@pytest.fixture
def settings(tmp_path):
    return {
        "engine": "scripted",
        "audit_url": f"sqlite:///{tmp_path}/audit.db",
        "audit_key_file": tmp_path / "audit.key",
    }


def test_rewards_in_process(settings):
    with Judge.load(profile="smollm2-135m", **settings) as judge:
        verdict = judge.rewards(*PAIR, k=4, score="soft", stop="exact")
    assert len(verdict.rewards) == 2
    assert verdict.profile == "smollm2-135m"
    assert verdict.k == 4
    assert all(sample.expected for sample in verdict.samples)


def test_interface_is_the_client_s():
    assert issubclass(Judge, Client)
    assert {name for name in vars(Client) if not name.startswith("_")} <= set(dir(Judge))


def test_batch_in_process(settings):
    with Judge.load(**settings) as judge:
        good, bad = judge.batch(
            [{"query": PAIR[0], "responses": PAIR[1]}, {"query": "a", "responses": []}], k=2
        )
    assert len(good.rewards) == 2
    assert isinstance(bad, NoVerdict)
    assert bad.code == "invalid_request"


def test_verdicts_are_recorded(settings):
    with Judge.load(**settings) as judge:
        first = judge.rewards(*PAIR, k=2)
    with Judge.load(**settings) as judge:
        again = judge.rewards(*PAIR, k=2)
    assert first.id != again.id
    assert first.rewards == again.rewards


def test_failures_are_the_client_s(settings):
    with Judge.load(**settings, script="unreadable") as judge, pytest.raises(NoVerdict) as failed:
        judge.rewards(*PAIR, k=2)
    assert failed.value.code == "all_unreadable"


@pytest.mark.anyio
async def test_async_judge(settings):
    async with AsyncJudge.load(**settings) as judge:
        verdicts = await asyncio.gather(*(judge.rewards(*PAIR, k=2, seed=seed) for seed in range(3)))
        principles = await judge.principles(PAIR[0])
    assert len({verdict.id for verdict in verdicts}) == 3
    assert principles.principles


@pytest.mark.anyio
async def test_async_judge_starts_on_first_use(settings):
    judge = AsyncJudge.load(**settings)
    try:
        assert (await judge.rewards(*PAIR, k=1)).rewards
    finally:
        await judge.close()


def test_judge_can_be_pickled(settings):
    with Judge.load(**settings) as judge, pickle.loads(pickle.dumps(judge)) as copy:
        assert copy.rewards(*PAIR, k=1).rewards == judge.rewards(*PAIR, k=1).rewards


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"engine": "abacus"}, BadSetting, "GRM_ENGINE: Input should be"),
        ({"colour": "blue"}, BadSetting, "unknown settings: colour"),
        ({"profile": "nobody"}, UnknownName, "nobody"),
    ],
)
def test_bad_settings_raise(settings, changed, error, message):
    with pytest.raises(error, match=message):
        Judge.load(**settings | changed)


def test_import_is_light():
    code = (
        "import sys, grm_service; "
        "print([m for m in ('pydantic', 'fastapi', 'torch', 'httpx', 'sqlalchemy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_unknown_name_is_an_attribute_error():
    import grm_service

    with pytest.raises(AttributeError, match="Jugde"):
        grm_service.Jugde  # noqa: B018
