"""Every integration and the client read every shape of turns and references as the same text."""

import asyncio
import contextlib
import types

import numpy as np
import pytest

from grm_service.client import AsyncClient, Client, NoVerdict
from grm_service.integrations import areal, common, nemo_gym, skyrl, slime, swift, trl, verl
from tests.integrations import stand_ins
from tests.turn_table import IMAGES, NULL, TEXTS, TRAJECTORY, TRAJECTORY_TEXT, turn

QUERY = "How warm is it?"
ASK = {"role": "user", "content": QUERY}
pytestmark = pytest.mark.usefixtures("configured")


class Recorder(AsyncClient):
    """A client that records the bodies and returns no verdict."""

    def __init__(self):
        super().__init__("http://127.0.0.1:9")
        self.bodies = []

    async def _judge(self, fields):
        self.bodies.append(fields)
        raise NoVerdict("recorded", "nothing was judged")


class Blocking:
    """The same for blocking code."""

    def __init__(self, client):
        self.client = client

    def rewards(self, *args, **options):
        return asyncio.run(self.client.rewards(*args, **options))


async def _trl(client, completion, reference):
    await trl.GRMReward(client)([[ASK]], [completion], reference=[reference])


async def _swift(client, completion, reference):
    reward = type("Own", (swift.GRM,), {"client": client})()
    await reward([completion], [[ASK, {"role": "assistant", "content": ""}]], reference=[reference])


async def _verl(client, completion, reference):
    extra = {"question": np.array([ASK], dtype=object)}
    await verl.compute_score("data", completion, reference, extra, client=client)


async def _slime(client, completion, reference):
    sample = stand_ins.sample(prompt=[ASK], response=completion, label=reference)
    await slime.make(client)(types.SimpleNamespace(), [sample])


async def _areal(client, completion, reference):
    await areal.make(client)("", completion, None, None, messages=[ASK], answer=reference)


async def _gym(client, completion, reference):
    output = completion if isinstance(completion, list) else [completion]
    row = {"responses_create_params": {"input": [ASK]}, "response": {"output": output}}
    await nemo_gym.judge(row | {"reference": reference}, client)


async def _skyrl(client, completion, reference):
    await asyncio.to_thread(skyrl.judge, [ASK], completion, reference, Blocking(client))


INTEGRATIONS = [_trl, _swift, _verl, _slime, _areal, _gym, _skyrl]


def sent(run, integration, completion, reference=None):
    """Return the body that an integration sends."""
    client = Recorder()
    with contextlib.suppress(NoVerdict):
        run(integration(client, completion, reference))
    (body,) = client.bodies
    return body


@pytest.mark.parametrize("integration", INTEGRATIONS, ids=lambda each: each.__name__)
def test_every_integration_reads_every_shape(run, integration):
    for name, (shape, text) in TEXTS.items():
        body = sent(run, integration, shape)
        assert body["responses"] == [text], name
        assert body["query"] == [ASK]
    assert sent(run, integration, TRAJECTORY)["responses"] == [TRAJECTORY_TEXT]
    assert sent(run, integration, turn(["A cat", IMAGES[0]]))["responses"] == ["A cat\n\n[image]"]


@pytest.mark.parametrize("integration", INTEGRATIONS, ids=lambda each: each.__name__)
@pytest.mark.parametrize(
    ("label", "reference"), [(42, "42"), (np.int64(42), "42"), (True, "true"), (float("nan"), None)], ids=repr
)
def test_every_integration_sends_references(run, integration, label, reference):
    assert sent(run, integration, "21" if integration is not _gym else turn("21"), label).get(
        "reference"
    ) == (reference)


@pytest.mark.parametrize("null", NULL, ids=str)
def test_odd_row_has_no_reward(run, null, caplog):
    result = run(trl.grm_reward(prompts=[QUERY] * 3, completions=["11", null, "13"]))
    assert [reward is None for reward in result] == [False, True, False]
    assert "no reward for 1 completions: invalid_request" in caplog.text


def test_odd_prompt_has_no_reward(run):
    result = run(trl.grm_reward(prompts=[None, QUERY, [], 5], completions=["11", "12", "13", "14"]))
    assert [reward is None for reward in result] == [True, False, True, True]


def test_odd_sample_of_slime_has_no_reward(run):
    samples = [stand_ins.sample(prompt=QUERY, response=text) for text in ("11", None)]
    filtered = types.SimpleNamespace(dynamic_sampling_filter_path="judged")
    assert [reward is None for reward in run(slime.group_rm(filtered, samples))] == [False, True]
    with pytest.raises(NoVerdict, match="null"):
        run(slime.group_rm(types.SimpleNamespace(), samples))


def test_image_of_a_data_set_is_masked():
    part = {"type": "image", "image": "x.png", "text": None}
    prompt = [{"role": "user", "content": [part, {"type": "text", "image": None, "text": "What is this?"}]}]
    assert common.to_query(prompt) == [{"role": "user", "content": "[image]\n\nWhat is this?"}]


def test_columns_are_numpy_values():
    row = {"principles": np.array(["Be right", "Be brief"], dtype=object), "reference": np.str_("x")}
    items = [{"text": "Be right"}, {"text": "Be brief"}]
    assert common.row_fields(row) == {"reference": "x", "principles": {"mode": "fixed", "items": items}}
    assert common.row_fields({"principles": np.array([]), "reference": float("nan")}) == {}
    assert common.row_fields({"principles": "Be right"})["principles"]["items"] == items[:1]
    assert common.row_fields({"principles": 5})["principles"]["items"] == [{"text": 5}]


def test_client_sends_every_shape(configured):
    with Client(configured) as client:
        arrays = np.array([ASK], dtype=object)
        verdict = client.rewards(
            arrays, [TRAJECTORY, "21", turn(np.str_("22"))], reference=np.int64(21), k=np.int64(2)
        )
        text = client.rewards([ASK], [TRAJECTORY_TEXT, "21", "22"], reference="21", k=2)
        assert verdict.rewards == text.rewards
        assert isinstance(client.single([ASK], TRAJECTORY, reference=21, k=2).reward, float)
        with pytest.raises(NoVerdict, match="object"):
            client.rewards(QUERY, [turn(object())])
