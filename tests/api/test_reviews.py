"""Verdicts, the review queue, reviews and agreement over HTTP."""

import asyncio
import hashlib
import json

import pytest

from grm_service.audit.chain import verify
from grm_service.audit.queries import Queries
from grm_service.errors import AuditUnavailable
from grm_service.serving.keys import APIKey, Keys
from grm_service.types import JudgeOptions, Message, Principle, PrincipleSpec, Task
from tests.waiting import HANG_S

pytestmark = pytest.mark.anyio
PAIR = {"query": "Name a prime.", "responses": ["11", "twelve"], "k": 4}


async def judged(client, **changes):
    answer = await client.post("/v1/rewards", json=PAIR | changes)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def reviewed(client, id_, expect=201, **review):
    answer = await client.post(f"/v1/verdicts/{id_}/reviews", json={"reviewer": "ann"} | review)
    assert answer.status_code == expect, answer.text
    return answer.json()


async def test_verdict_can_be_looked_up(serve):
    async with serve() as client:
        constitution = {"mode": "fixed", "set": "code", "items": [{"text": "It works.", "weight": 0.5}]}
        verdict = await judged(client, principles=constitution, seed=7, reference="a prime")
        reply = (await client.get(f"/v1/verdicts/{verdict['id']}")).json()
    assert reply["verdict"] == verdict
    assert reply["request"]["messages"] == [{"role": "user", "content": "Name a prime."}]
    assert reply["request"]["responses"] == PAIR["responses"]
    assert reply["request"]["seed"] == 7
    assert reply["request"]["reference"] == "a prime"
    assert reply["request"]["principles"]["set"] == "code"
    assert reply["standard"][-1] == {"text": "It works.", "weight": 0.5}
    assert verdict["constitution"].startswith("sha256:")
    assert reply["reviews"] == []


async def test_every_route_is_recorded(serve):
    async with serve() as client:
        await judged(client)
        stream = await client.post("/v1/rewards", json=PAIR | {"seed": 1, "stream": True})
        assert "event: verdict" in stream.text
        batch = await client.post("/v1/rewards/batch", json=[PAIR | {"seed": 2}, {}, PAIR | {"seed": 3}])
        assert [item["status"] for item in batch.json()] == ["ok", "failed", "ok"]
        listed = (await client.get("/v1/verdicts")).json()["verdicts"]
        assert [one["route"] for one in listed] == ["batch", "batch", "rewards", "rewards"]
        assert verify(client.service.trail.store).records == 4


async def test_replayed_verdict_is_one_record(serve):
    async with serve() as client:
        first, second = await judged(client), await judged(client)
        assert first["id"] == second["id"]
        assert len((await client.get("/v1/verdicts")).json()["verdicts"]) == 1


async def test_lists_are_paged_newest_first(serve):
    async with serve() as client:
        ids = [(await judged(client, seed=seed))["id"] for seed in range(5)]
        first = (await client.get("/v1/verdicts?limit=3")).json()
        rest = (await client.get(f"/v1/verdicts?limit=3&before={first['next']}")).json()
    assert [one["id"] for one in first["verdicts"] + rest["verdicts"]] == ids[::-1]
    assert rest["next"] is None


async def test_search_handles_quotes_and_newlines(serve):
    async with serve() as client:
        await judged(client, query='Say "yes"\nor no.')
        await judged(client, query="Something else.")
        for text, count in (('"yes"\nor', 1), ("SOMETHING", 1), ("nowhere", 0)):
            reply = await client.get("/v1/verdicts", params={"search": text})
            assert len(reply.json()["verdicts"]) == count, text


async def test_unknown_verdict_is_404(serve):
    async with serve() as client:
        assert (await client.get("/v1/verdicts/vd_none")).json()["code"] == "unknown_verdict"
        assert (await reviewed(client, "vd_none", 404, decision="agree"))["code"] == "unknown_verdict"
        review = await reviewed(client, (await judged(client))["id"], decision="agree")
        assert (await client.get(f"/v1/verdicts/{review['id']}")).status_code == 404


async def test_review_leaves_verdict_unchanged(serve):
    async with serve() as client:
        verdict = await judged(client)
        first = await reviewed(
            client, verdict["id"], decision="overrule", ranking=[2, 1], note="12 is no prime"
        )
        await reviewed(client, verdict["id"], decision="unsound_principle", principle="It is long.")
        reply = (await client.get(f"/v1/verdicts/{verdict['id']}")).json()
        assert reply["verdict"] == verdict
        assert [one["decision"] for one in reply["reviews"]] == ["overrule", "unsound_principle"]
        assert reply["reviews"][0] == first
        listed = (await client.get("/v1/verdicts?reviewed=true")).json()["verdicts"]
        assert [(one["id"], one["reviews"]) for one in listed] == [(verdict["id"], 2)]
        assert verify(client.service.trail.store).bad is None


@pytest.mark.parametrize(
    ("review", "message"),
    [
        ({"decision": "agree", "ranking": [1, 2]}, "takes no ranking"),
        ({"decision": "overrule"}, "needs the right ranking"),
        ({"decision": "overrule", "ranking": [1, 2], "scores": [1, 2]}, "one of them"),
        ({"decision": "overrule", "ranking": [1, 2, 3]}, "each of the 2 responses"),
        ({"decision": "overrule", "scores": []}, "each of the 2 responses"),
        ({"decision": "overrule", "ranking": []}, "each of the 2 responses"),
        ({"decision": "unsound_principle"}, "needs the principle"),
        ({"decision": "maybe"}, "decision"),
        ({"decision": "agree", "reviewer": ""}, "reviewer"),
    ],
)
async def test_invalid_review_is_refused(serve, review, message):
    async with serve() as client:
        problem = await reviewed(client, (await judged(client))["id"], 422, **review)
    assert message in json.dumps(problem)


async def test_reviewed_verdict_leaves_the_queue(serve):
    async with serve() as client:
        tied = await judged(client, responses=["same", "same"])
        clear = await judged(client, responses=["only one"])
        queue = (await client.get("/v1/reviews/queue")).json()["items"]
        assert [item["id"] for item in queue] == [tied["id"]]
        assert "tie" in queue[0]["reasons"]
        assert queue[0]["worth"] > 0
        assert clear["id"] not in str(queue)
        await reviewed(client, tied["id"], decision="agree")
        assert (await client.get("/v1/reviews/queue")).json()["items"] == []


async def test_agreement_uses_latest_reviews(serve):
    async with serve() as client:
        verdicts = [await judged(client, seed=seed, responses=["a", "b", "c"]) for seed in range(12)]
        clear = [one for one in verdicts if one["best"] is not None]
        assert len({one["best"] for one in clear}) > 1
        for one in clear:
            await reviewed(client, one["id"], decision="overrule", scores=[0, 0, 0])
            await reviewed(client, one["id"], decision="agree")
        other = await judged(client, principles={"mode": "fixed", "set": "code"})
        await reviewed(client, other["id"], decision="unsound_principle", principle="x")
        stats = (await client.get("/v1/reviews/stats")).json()
    (group,) = stats["groups"]
    assert (group["profile"], group["principles"]) == ("smollm2-judge", "self")
    assert (group["reviews"], group["agreed"]) == (len(clear), len(clear))
    assert group["kappa"] == 1.0
    assert group["interval"] == [1.0, 1.0]
    assert stats["over_time"][0]["reviews"] == len(clear)
    assert stats["over_time"][0]["from"]


async def test_reviews_export_as_preference_data(serve):
    async with serve() as client:
        one = await judged(client, messages=[{"role": "user", "content": "q"}], query=None)
        two = await judged(client, seed=1)
        three = await judged(client, seed=2)
        await reviewed(client, one["id"], decision="overrule", ranking=[2, 1])
        await reviewed(client, two["id"], decision="overrule", scores=[5, 5])
        await reviewed(client, three["id"], decision="unsound_principle", principle="x")
        answer = await client.get("/v1/reviews/export")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    items = [json.loads(line) for line in answer.text.splitlines()]
    assert [(item["id"], item["preferred"], item["meta"]["tie"]) for item in items] == [
        (one["id"], 1, False),
        (two["id"], None, True),
    ]
    assert items[0].keys() == {
        "id",
        "source",
        "subset",
        "messages",
        "responses",
        "preferred",
        "scores",
        "meta",
    }
    assert items[1]["scores"] == [5, 5]


async def test_hashed_verdicts_are_not_exported(serve):
    async with serve(audit_text=False) as client:
        verdict = await judged(client)
        reply = (await client.get(f"/v1/verdicts/{verdict['id']}")).json()
        await reviewed(client, verdict["id"], decision="agree")
        assert (await client.get("/v1/reviews/export")).text == ""
        assert (await client.get("/v1/reviews/stats")).json()["groups"][0]["reviews"] == 1
    assert reply["request"]["responses"][0].startswith("sha256:")
    assert reply["verdict"]["rewards"] == verdict["rewards"]


async def test_observed_principles_are_grouped(serve):
    async with serve() as client:
        for seed in range(3):
            await judged(client, seed=seed, query="How do I sort a list in Python?")
        await judged(client, principles={"mode": "fixed", "set": "code"})
        reply = (await client.get("/v1/principles/observed")).json()
    assert (reply["verdicts"], reply["samples"]) == (3, 12)
    first = reply["principles"][0]
    assert first["count"] == 12
    assert first["share"] == 1.0
    assert first["kinds"] == {"code": 12}
    assert first["unsound"] == 0


async def test_unsound_principle_flags_later_verdicts(serve):
    async with serve() as client:
        verdict = await judged(client)
        stated = verdict["samples"][0]["principles"][0]["text"]
        assert (
            "flagged_principle" not in (await client.get(f"/v1/verdicts/{verdict['id']}")).json()["reasons"]
        )
        await reviewed(client, verdict["id"], decision="unsound_principle", principle=stated.upper() + "!")
    async with serve() as client:
        later = await judged(client, seed=1)
        stored = (await client.get(f"/v1/verdicts/{later['id']}")).json()
        assert "flagged_principle" in stored["reasons"]
        queue = (await client.get("/v1/reviews/queue")).json()["items"]
        assert later["id"] in {item["id"] for item in queue}
        observed = (await client.get("/v1/principles/observed")).json()["principles"]
        assert {one["unsound"] for one in observed if one["text"] == stated} == {1}


def keys():
    callers = {"ann": "key-ann", "bob": "key-bob", "eve": "key-eve"}
    return Keys(
        tuple(
            APIKey(name, hashlib.sha256(key.encode()).hexdigest(), auditor=name == "eve")
            for name, key in callers.items()
        )
    )


async def test_auditors_see_all_verdicts(serve):
    def by(name):
        return {"Authorization": f"Bearer key-{name}"}

    async with serve(keys=keys()) as client:
        verdict = (await client.post("/v1/rewards", json=PAIR, headers=by("ann"))).json()
        for name, sees in (("ann", 1), ("bob", 0), ("eve", 1)):
            listed = (await client.get("/v1/verdicts", headers=by(name))).json()["verdicts"]
            assert len(listed) == sees
            reply = await client.get(f"/v1/verdicts/{verdict['id']}", headers=by(name))
            assert reply.status_code == (200 if sees else 404)
            review = {"reviewer": name, "decision": "agree"}
            review_reply = await client.post(
                f"/v1/verdicts/{verdict['id']}/reviews", json=review, headers=by(name)
            )
            assert review_reply.status_code == (201 if sees else 404)
            stats = (await client.get("/v1/reviews/stats", headers=by(name))).json()
            assert bool(stats["groups"]) == bool(sees)
        assert (await client.get("/v1/verdicts")).status_code == 401


async def test_keys_have_separate_reviewers(serve):
    async with serve(keys=keys()) as client:

        async def say(key, **review):
            headers = {"Authorization": f"Bearer key-{key}"}
            path = f"/v1/verdicts/{verdict['id']}/reviews"
            review_reply = await client.post(path, json={"reviewer": "eve"} | review, headers=headers)
            assert review_reply.status_code == 201

        verdict = (await client.post("/v1/rewards", json=PAIR, headers={"X-API-Key": "key-ann"})).json()
        await say("eve", decision="overrule", scores=[0, 0])
        await say("ann", decision="agree")
        stats = (await client.get("/v1/reviews/stats", headers={"X-API-Key": "key-eve"})).json()
    assert (stats["groups"][0]["reviews"], stats["groups"][0]["agreed"]) == (2, 1)


async def test_failed_export_is_an_error(serve, monkeypatch):
    def broken(self, search):
        raise AuditUnavailable("no such table")

    async with serve() as client:
        await reviewed(client, (await judged(client))["id"], decision="agree")
        monkeypatch.setattr(Queries, "last_reviews", broken)
        answer = await client.get("/v1/reviews/export")
    assert (answer.status_code, answer.json()["code"]) == (503, "audit_unavailable")


async def test_stored_requests_skip_validation(serve):
    long = Principle("x" * 4001)
    async with serve() as client:
        task = Task(
            (Message("user", "q"),),
            ("a", "b"),
            options=JudgeOptions(principles=PrincipleSpec("fixed", None, (long,)), k=1),
        )
        record = await client.service.judge(task)
        reply = await client.get(f"/v1/verdicts/{record.id}")
    assert reply.json()["request"]["principles"]["items"][0]["text"] == long.text


async def test_unrecorded_verdict_is_not_returned(serve):
    async with serve() as client:
        await judged(client)
        append = client.service.trail.store.append

        def full(entries):
            raise OSError("no space left on device")

        client.service.trail.store.append = full
        failed = await client.post("/v1/rewards", json=PAIR | {"seed": 1})
        assert (failed.status_code, failed.json()["code"]) == (503, "audit_unavailable")
        assert "rewards" not in failed.json()
        assert (await client.get("/readyz")).status_code == 503
        refused = await client.post("/v1/rewards", json=PAIR | {"seed": 2})
        assert refused.json()["code"] == "audit_unavailable"
        client.service.trail.store.append = append
        async with asyncio.timeout(HANG_S):
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.05)
        await judged(client, seed=1)
