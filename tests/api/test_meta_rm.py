"""Voting with a meta RM over HTTP."""

import pytest

from grm_service.audit.compare import differences
from grm_service.audit.entry import to_record
from grm_service.audit.queries import Queries, Search
from grm_service.client.verdict import parse_verdict as read
from grm_service.errors import MetaRMNotServed
from tests.meta_rm import ScriptedMetaRM, guide

pytestmark = pytest.mark.anyio
PAIR = {"query": "Name a prime.", "responses": ["11", "12"], "k": 4}


@pytest.fixture
async def client(serve):
    async with serve() as client:
        guide(client.service, ScriptedMetaRM())
        yield client


async def test_reply_has_grades_and_both_votes(client):
    reply = (await client.post("/v1/rewards", json=PAIR)).json()
    counted = [sample for sample in reply["samples"] if sample["counted"]]
    grades = sorted((sample["grade"] for sample in reply["samples"]), reverse=True)
    assert (reply["k"], reply["valid"], reply["counted"], len(counted)) == (4, 4, 2, 2)
    assert sorted((sample["grade"] for sample in counted), reverse=True) == grades[:2]
    mean = [sum(sample["scores"][i] for sample in counted) / 2 for i in range(2)]
    unfiltered_mean = [sum(sample["scores"][i] for sample in reply["samples"]) / 4 for i in range(2)]
    assert (reply["rewards"], reply["unfiltered"]["rewards"]) == (mean, unfiltered_mean)
    assert reply["meta_rm"] == "scripted-meta-rm"
    assert (await client.get("/readyz")).json()["meta_rm"] == "scripted-meta-rm"
    assert (await client.get(f"/v1/verdicts/{reply['id']}")).json()["verdict"] == reply


async def test_client_reads_grades_and_both_votes(client):
    reply = read((await client.post("/v1/rewards", json=PAIR)).json(), 2)
    assert reply.unfiltered.rewards != ()
    assert all(0 <= sample.grade <= 1 for sample in reply.samples)
    plain = read((await client.post("/v1/rewards", json=PAIR | {"k_meta": 0})).json(), 2)
    assert (plain.unfiltered, plain.meta_rm, plain.counted) == (None, None, 4)


async def test_stream_has_the_grades(client):
    stream = await client.post("/v1/rewards", json=PAIR | {"stream": True})
    samples = [line for line in stream.text.splitlines() if '"index":' in line and '"samples":' not in line]
    assert len(samples) == 4
    assert all('"grade":0.9' in line for line in samples)


async def test_dialect_url_sets_k_meta(client):
    for k_meta, expected in (("", 2), ("&k_meta=3", 3), ("&k_meta=0", 4)):
        response = await client.post(
            f"/slime?k=4&group=1{k_meta}", json={"prompt": "Name a prime.", "response": "11"}
        )
        assert response.status_code == 200
        listed = (await client.get("/v1/verdicts")).json()["verdicts"]
        verdict = (await client.get(f"/v1/verdicts/{listed[0]['id']}")).json()["verdict"]
        assert verdict["counted"] == expected


async def test_differing_votes_are_queued_for_review(serve):
    # The judge prefers the first position: all samples together are a tie, any single one is not.
    async with serve(script="first") as client:
        guide(client.service, ScriptedMetaRM())
        reply = (await client.post("/v1/rewards", json=PAIR | {"k_meta": 1})).json()
        (queued,) = (await client.get("/v1/reviews/queue")).json()["items"]
    assert reply["best"] is not None
    assert reply["unfiltered"]["best"] is None
    assert (queued["id"], queued["reasons"]) == (reply["id"], ["votes_apart"])


async def test_replay_selects_the_same_samples(client):
    reply = (await client.post("/v1/rewards", json=PAIR)).json()
    record = to_record(next(Queries(client.service.trail.store.database).bodies(Search(id=reply["id"]))).body)
    replayed = await client.service.replay(record)
    assert list(differences(record.verdict, replayed)) == []
    assert replayed.unfiltered == record.verdict.unfiltered
    client.service.validator._grades = False
    with pytest.raises(MetaRMNotServed):
        await client.service.replay(record)
