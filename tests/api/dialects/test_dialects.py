"""Each dialect answers as its client reads it, judges groups as groups, and fails by its framework's rule."""

import asyncio
import json
import math

import pytest

from grm_service.api.dialects.registry import DialectRegistry
from grm_service.errors import BadSetting, Overloaded
from grm_service.settings import Settings
from tests.waiting import until

pytestmark = pytest.mark.anyio
QUERY = "Name a prime."
PROMPT = f"<|im_start|>user\n{QUERY}<|im_end|>\n<|im_start|>assistant\n"
ANSWERS = ["11", "twelve", "13", "a prime is a number"]


def chatml(answer):
    return f"{PROMPT}{answer}<|im_end|>"


def gym(answer, **row):
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": answer}]}
    return {
        "responses_create_params": {"input": [{"role": "user", "content": QUERY}], "tools": []},
        "response": {"id": "r", "output": [{"type": "reasoning", "summary": []}, message]},
        "label": "gold",
        "_ng_task_index": 0,
    } | row


SINGLES = {
    "single": (
        "/v1/rewards/single",
        lambda answer: {"query": QUERY, "response": answer, "reference": "11"},
        lambda reply: reply["reward"],
    ),
    "openrlhf": (
        "/get_reward",
        lambda answer: {"query": [chatml(answer)], "prompts": [PROMPT], "labels": ["11"]},
        lambda reply: reply["rewards"][0],
    ),
    "slime": (
        "/slime",
        lambda answer: {"prompt": QUERY, "response": answer, "label": "11"},
        lambda reply: reply,
    ),
    "vllm": (
        "/classify",
        lambda answer: {"model": "m", "input": chatml(answer), "use_activation": False},
        lambda reply: reply["data"][-1]["probs"][-1],
    ),
    "sglang": (
        "/v1/embeddings",
        lambda answer: {"model": "m", "input": chatml(answer)},
        lambda reply: reply["data"][-1]["embedding"][-1],
    ),
    "nemo_gym": ("/verify", gym, lambda reply: reply["reward"]),
    "chat": (
        "/v1/chat/completions",
        lambda answer: {
            "model": "m",
            "messages": [{"role": "user", "content": QUERY}, {"role": "assistant", "content": answer}],
        },
        lambda reply: float(reply["choices"][0]["message"]["content"].removeprefix("reward:")),
    ),
}


async def native(client, **fields):
    body = {"query": QUERY, "responses": ANSWERS, "k": 4} | fields
    return (await client.post("/v1/rewards", json=body)).json()["rewards"]


async def sent(client, name, wish="?k=4&group=4", answers=ANSWERS):
    path, body, _ = SINGLES[name]
    return await asyncio.gather(*(client.post(path + wish, json=body(answer)) for answer in answers))


@pytest.mark.parametrize("name", SINGLES)
async def test_responses_that_come_one_by_one_are_judged_as_a_group(serve, name):
    read = SINGLES[name][2]
    reference = "11" if name in ("single", "openrlhf", "slime") else None
    async with serve() as client:
        replies = await sent(client, name)
        assert [reply.status_code for reply in replies] == [200] * 4, replies[0].text
        assert replies[0].headers["content-type"].startswith("application/json")
        found = [read(reply.json()) for reply in replies]
        assert found == pytest.approx(await native(client, reference=reference), abs=1e-4)
        kept = (await client.get("/v1/verdicts")).json()["verdicts"]
        assert kept[1]["responses"] == 4
        metrics = (await client.get("/metrics")).text
        assert 'outcome="complete"' in metrics


@pytest.mark.parametrize("label", ["", " ", None, 42, {"answer": 1}, ["x"]], ids=repr)
@pytest.mark.parametrize("name", ["openrlhf", "slime"])
async def test_a_label_that_is_no_text_is_no_reference(serve, name, label):
    path, body, read = SINGLES[name]
    sample = body("11")
    sample |= {"label": label} if name == "slime" else {"labels": [label]}
    async with serve() as client:
        reply = await client.post(path + "?k=4&window_s=0", json=sample)
        assert read(reply.json()) == pytest.approx((await native(client, responses=["11"]))[0], abs=1e-4)
        (kept, _) = (await client.get("/v1/verdicts")).json()["verdicts"]
        shown = (await client.get(f"/v1/verdicts/{kept['id']}")).json()
    assert shown["request"]["reference"] is None


@pytest.mark.parametrize("label", ["\0", "\ud800"], ids=["nul", "surrogate"])
@pytest.mark.parametrize("name", ["openrlhf", "slime"])
async def test_a_label_that_cannot_be_stored_is_refused(serve, name, label):
    path, body, _ = SINGLES[name]
    sample = body("11") | ({"label": label} if name == "slime" else {"labels": [label]})
    async with serve() as client:
        typed = {"Content-Type": "application/json"}
        reply = await client.post(path + "?k=1&window_s=0", content=json.dumps(sample), headers=typed)
    assert (reply.status_code, reply.json()["code"]) == (422, "bad_request")


@pytest.mark.parametrize("name", SINGLES)
async def test_one_that_comes_alone_is_judged_alone_when_the_window_closes(serve, name):
    async with serve() as client:
        for wish in ("?k=2&group=4&window_s=0.05", "?k=2&window_s=0"):
            (reply,) = await sent(client, name, wish, ["11"])
            assert math.isfinite(SINGLES[name][2](reply.json()))


@pytest.mark.parametrize("name", SINGLES)
async def test_what_nobody_could_read_is_no_number(serve, name):
    async with serve(script="unreadable") as client:
        (reply,) = await sent(client, name, "?k=2&window_s=0", ["11"])
    if name == "nemo_gym":
        assert reply.status_code == 200
        said = reply.json()
        assert said["_ng_failure_class"] == "judge_failed"
        assert "all_unreadable" in said["_ng_failure_judge_error"]
        assert said["instance_config"]["mask_sample"] is said["mask_sample"] is True
        assert said["response"] == gym("11")["response"]
    else:
        assert reply.status_code == 502
        assert reply.json()["code"] == "all_unreadable"


async def test_who_knows_no_mask_gets_no_masked_zero(serve):
    async with serve(script="unreadable") as client:
        row = gym("11")
        del row["_ng_task_index"]
        reply = await client.post("/verify?k=2&window_s=0", json=row)
    assert (reply.status_code, reply.json()["code"]) == (502, "all_unreadable")


@pytest.mark.parametrize("name", SINGLES)
async def test_a_wished_fallback_is_answered_and_counted(serve, name):
    async with serve(script="unreadable") as client:
        (reply,) = await sent(client, name, "?k=2&window_s=0&fallback=5.5", ["11"])
        assert SINGLES[name][2](reply.json()) == 5.5
        metrics = (await client.get("/metrics")).text
    assert "grm_fallbacks_total{code=" in metrics


@pytest.mark.parametrize("name", SINGLES)
async def test_a_wish_that_means_nothing_is_refused(serve, name):
    async with serve() as client:
        for wish in ("?kk=4", "?k=many", "?k=0", "?fallback=nan", "?transform=square"):
            (reply,) = await sent(client, name, wish, ["11"])
            assert reply.status_code == 422, wish
            assert wish[1:].partition("=")[0] in reply.json()["detail"]


def fill(service, times):
    """The line is full for so many requests."""
    place, left = service.queue.reserve, [times]

    def full(*args):
        if left[0]:
            left[0] -= 1
            raise Overloaded(2048, 1)
        return place(*args)

    service.queue.reserve = full


@pytest.mark.parametrize("name", ["openrlhf", "slime", "nemo_gym"])
async def test_a_full_line_holds_those_who_take_a_refusal_badly(serve, name):
    async with serve() as client:
        fill(client.service, 1)
        (reply,) = await sent(client, name, "?k=2&window_s=0", ["11"])
        assert reply.status_code == 200
        assert "_ng_failure_class" not in reply.text


async def test_who_is_held_is_answered_within_its_time(serve):
    async with serve() as client:
        fill(client.service, 1000)
        (reply,) = await sent(client, "openrlhf", "?k=2&window_s=0&timeout_s=1.5", ["11"])
        assert reply.status_code == 429


@pytest.mark.parametrize("name", ["vllm", "sglang"])
async def test_a_full_line_is_a_503_for_verl_which_never_tries_again_after_a_4xx(serve, name):
    async with serve() as client:
        fill(client.service, 1)
        (reply,) = await sent(client, name, "?k=2&window_s=0", ["11"])
        assert reply.status_code == 503
        assert reply.json()["code"] == "overloaded"
        assert int(reply.headers["retry-after"]) >= 1


async def test_a_group_transform_is_over_the_group_and_fails_for_one_alone(serve):
    async with serve() as client:
        replies = await sent(client, "slime", "?k=4&group=4&transform=zscore")
        values = [reply.json() for reply in replies]
        assert sum(values) == pytest.approx(0, abs=1e-6)
        assert max(values) > 0
        (alone,) = await sent(client, "slime", "?k=4&window_s=0&transform=zscore", ["another"])
        assert (alone.status_code, alone.json()["code"]) == (503, "siblings_missing")


async def test_a_group_transform_counts_samples_that_came_out_alike(serve):
    async with serve() as client:
        answers = ["11", "11", "11", "twelve"]
        replies = await sent(client, "slime", "?k=4&group=4&transform=zscore", answers)
        values = [reply.json() for reply in replies]
        assert values[0] == values[1] == values[2] != values[3]
        assert sum(values) == pytest.approx(0, abs=1e-6)
        same = await sent(client, "slime", "?k=4&group=4&transform=zscore", ["13"] * 4)
        assert [reply.json() for reply in same] == [0.0] * 4


async def test_what_slimes_prompt_began_of_the_answer_belongs_to_it(serve):
    async with serve() as client:
        body = {"prompt": f"{PROMPT}<think>\n", "response": "Hm.</think>11<|im_end|>", "label": None}
        assert (await client.post("/slime?k=2&window_s=0", json=body)).status_code == 200
        kept = (await client.get("/v1/verdicts")).json()["verdicts"][0]
        record = (await client.get(f"/v1/verdicts/{kept['id']}")).json()
    assert record["request"]["responses"] == ["<think>\nHm.</think>11"]


async def test_slime_can_have_an_object(serve):
    async with serve() as client:
        (reply,) = await sent(client, "slime", "?k=2&window_s=0&as_dict=true", ["11"])
    said = reply.json()
    assert said["judged"] == 1
    assert said["raw"] == said["reward"]
    assert all(isinstance(value, float | int) for value in said.values())


async def test_openrlhf_gets_numbers_only_and_scores_on_0_to_1(serve):
    async with serve() as client:
        body = {"query": [chatml(a) for a in ANSWERS], "prompts": [PROMPT] * 4, "labels": [None] * 4}
        reply = (await client.post("/get_reward?k=4&group=4", json=body)).json()
    assert reply["rewards"] == pytest.approx([1 + 9 * score for score in reply["scores"]])
    for values in reply["extra_logs"].values():
        assert len(values) == 4
        assert all(isinstance(value, float | int) for value in values)


async def test_openrlhf_is_told_that_a_prompt_was_cut(serve):
    async with serve() as client:
        body = {"query": ["something else"], "prompts": [PROMPT], "labels": [None]}
        reply = await client.post("/get_reward", json=body)
    assert reply.status_code == 422
    assert "cut" in reply.json()["detail"]


async def test_a_request_sent_again_while_it_is_judged_is_judged_once(serve):
    async with serve() as client:
        first, again = await asyncio.gather(
            *(sent(client, "openrlhf", "?k=2&window_s=0", ["11"]) for _ in "ab")
        )
        assert first[0].json() == again[0].json()
        assert len((await client.get("/v1/verdicts")).json()["verdicts"]) == 1


async def test_gym_groups_do_not_mix_and_rows_come_back_as_they_came(serve):
    async with serve() as client:
        rows = [
            gym(answer, _ng_group_id=group, _ng_group_attempt=0, _ng_rollout_index=i)
            for group in ("g1", "g2")
            for i, answer in enumerate(ANSWERS[:2])
        ]
        replies = await asyncio.gather(*(client.post("/verify?k=2&group=2", json=row) for row in rows))
        for row, reply in zip(rows, replies, strict=True):
            said = reply.json()
            assert {name: said[name] for name in row} == row
            assert said["group_size"] == 2
        # Both groups were of one prompt: judged once each, with the same verdict.
        assert [r.json()["reward"] for r in replies[:2]] == [r.json()["reward"] for r in replies[2:]]


async def test_a_policy_that_never_answered_is_judged_as_such(serve):
    async with serve() as client:
        row = gym("11")
        row["response"]["output"].pop()
        said = (await client.post("/verify?k=2&window_s=0", json=row)).json()
        record = (await client.get("/v1/verdicts")).json()["verdicts"][0]
        detail = (await client.get(f"/v1/verdicts/{record['id']}")).json()
    assert said["judged"] == 1
    assert detail["request"]["responses"] == [""]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("profile=typo", "unknown_profile"),
        ("k_meta=2", "meta_rm_not_served"),
        ("mode=fixed", "bad_request"),
    ],
)
async def test_gym_is_told_a_mistake_in_the_options_instead_of_masking_every_row(serve, options, code):
    async with serve() as client:
        reply = await client.post(f"/verify?{options}&window_s=0", json=gym("11"))
    assert reply.status_code in (404, 422)
    assert reply.json()["code"] == code


@pytest.mark.parametrize(
    "row",
    [{"note": "\ud800"}, {"note": float("nan")}, {"response": {"output": [], "note": "\ud800"}}],
    ids=["surrogate", "nan", "deeper"],
)
async def test_a_row_that_gym_could_not_get_back_is_refused_before_it_is_judged(serve, row):
    async with serve() as client:
        typed = {"Content-Type": "application/json"}
        reply = await client.post(
            "/verify?k=2&window_s=0", content=json.dumps(gym("11", **row)), headers=typed
        )
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")


async def test_a_masked_row_may_have_any_instance_config(serve):
    async with serve(script="unreadable") as client:
        reply = await client.post("/verify?k=2&window_s=0", json=gym("11", instance_config="abc"))
    assert reply.json()["instance_config"] == {"mask_sample": True}


async def test_gyms_means_leave_out_what_is_masked(serve):
    rows = [
        {"_ng_task_index": 0, "reward": 4.0, "judged": 1.0},
        {"_ng_task_index": 1, "reward": 8.0, "judged": 1.0, "note": "x"},
        {"_ng_task_index": 1, "reward": 0.0, "_ng_failure_class": "judge_failed"},
    ]
    rows[1] |= {"infinite": 1e999, "long": 10**400}
    async with serve() as client:
        body, typed = json.dumps({"verify_responses": rows}), {"Content-Type": "application/json"}
        said = (await client.post("/aggregate_metrics", content=body, headers=typed)).json()
        nothing = (await client.post("/aggregate_metrics", json={"verify_responses": rows[2:]})).json()
    assert said["key_metrics"] == {"mean/reward": 6.0}
    assert said["agent_metrics"] == {"mean/reward": 6.0, "mean/judged": 1.0}
    assert [task["mean/reward"] for task in said["group_level_metrics"]] == [4.0, 8.0]
    assert nothing["key_metrics"] == {}


async def test_gym_compares_a_group_by_a_principle(serve):
    async with serve() as client:
        body = {
            "conversation_history": [{"role": "user", "content": QUERY}],
            "response_objs": [gym(answer)["response"] for answer in ANSWERS],
            "principle": "It is a prime.",
        }
        said = (await client.post("/compare?k=4", json=body)).json()
        kept = (await client.get("/v1/verdicts")).json()["verdicts"][0]
        record = (await client.get(f"/v1/verdicts/{kept['id']}")).json()
        assert (await client.post("/seed_session", json={"x": 1})).json() == {}
    assert len(said["rewards"]) == 4
    assert record["standard"] == [{"text": "It is a prime.", "weight": None}]
    assert record["request"]["principles"]["mode"] == "fixed"


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
async def test_documents_are_ranked_as_one_group(serve, path):
    async with serve() as client:
        body = {"model": "m", "query": QUERY, "documents": [*ANSWERS[:3], {"text": ANSWERS[3]}], "top_n": 3}
        said = (await client.post(path + "?k=4", json=body)).json()
        rewards = await native(client)
    scores = [one["relevance_score"] for one in said["results"]]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 3
    for one in said["results"]:
        assert one["relevance_score"] == pytest.approx((rewards[one["index"]] - 1) / 9)
        assert one["document"]["text"] == ANSWERS[one["index"]]


async def test_tei_ranks_texts_and_predicts_pairs(serve):
    async with serve() as client:
        body = {"query": QUERY, "texts": ANSWERS, "return_text": True}
        said = (await client.post("/rerank?k=4", json=body)).json()
        assert {one["index"] for one in said} == {0, 1, 2, 3}
        assert said[0]["text"] == ANSWERS[said[0]["index"]]
        for inputs, count in (
            ([QUERY, "11"], None),
            ([[QUERY, "11"], [QUERY, "12"]], 2),
            (chatml("11"), None),
        ):
            found = (await client.post("/predict?k=2", json={"inputs": inputs})).json()
            first = found[0] if count is None else found[0][0]
            assert len(found) == (count or 1)
            assert first["label"] == "reward"
            assert 0 <= first["score"] <= 1


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ({"text_1": QUERY, "text_2": ANSWERS}, 4),
        ({"queries": QUERY, "documents": ANSWERS}, 4),
        ({"queries": [QUERY], "items": ANSWERS}, 4),
        ({"data_1": [QUERY, QUERY], "data_2": ANSWERS[:2]}, 2),
    ],
)
async def test_texts_are_scored_in_their_order(serve, body, count):
    async with serve() as client:
        said = (await client.post("/v1/score?k=4", json=body)).json()
    assert [one["index"] for one in said["data"]] == list(range(count))
    assert all(0 <= one["score"] <= 1 for one in said["data"])


async def test_tei_takes_single_texts_in_lists_and_is_told_in_its_own_words(serve):
    async with serve() as client:
        found = (await client.post("/predict?k=2", json={"inputs": [[chatml("11")], [QUERY, "12"]]})).json()
        assert [len(one) for one in found] == [1, 1]
        fill(client.service, 2)
        for path, body in (
            ("/predict", {"inputs": [QUERY, "a"]}),
            ("/rerank", {"query": "q", "texts": ["b"]}),
        ):
            reply = await client.post(path, json=body)
            assert reply.status_code == 429
            assert reply.json()["error"] == "Model is overloaded"
            assert reply.json()["error_type"] == "overloaded"


async def test_pairs_are_judged_at_once(serve):
    async with serve() as client:
        most, place = 0, client.service.queue.reserve

        def watched(*args):
            nonlocal most
            most = max(most, client.service.queue.in_flight)
            return place(*args)

        client.service.queue.reserve = watched
        await client.post("/score?k=2", json={"text_1": ["a", "b", "c"], "text_2": ["d", "e", "f"]})
    assert most >= 4


async def test_who_chats_alone_waits_for_nobody(serve):
    async with serve(group_window_s=60) as client, asyncio.timeout(10):
        (reply,) = await sent(client, "chat", "?k=2", ["11"])
    assert reply.status_code == 200


async def test_options_of_the_server_are_for_those_who_give_none(serve):
    async with serve(dialect_options="k=2&group=4", group_window_s=60) as client, asyncio.timeout(30):
        replies = await sent(client, "nemo_gym", "")
        assert {reply.json()["group_size"] for reply in replies} == {4}
        assert {reply.json()["samples"] for reply in replies} == {2}
        (own,) = await sent(client, "nemo_gym", "?k=3&window_s=0", ["another"])
        assert own.json()["samples"] == 3


async def test_a_dialect_that_is_off_is_not_there(serve):
    async with serve(dialects="slime") as client:
        (reply,) = await sent(client, "slime", "?window_s=0", ["11"])
        assert reply.status_code == 200
        (reply,) = await sent(client, "openrlhf", "", ["11"])
        assert reply.status_code == 404
    async with serve(dialects="none") as client:
        (reply,) = await sent(client, "slime", "", ["11"])
        assert reply.status_code == 404


@pytest.mark.parametrize(
    ("setting", "value"),
    [("dialects", "slime,verl"), ("dialect_options", "kk=4"), ("dialect_options", "k=many")],
)
def test_a_setting_that_means_nothing_stops_the_start(setting, value):
    with pytest.raises(BadSetting, match=f"GRM_{setting.upper()}"):
        DialectRegistry.of(Settings(**{setting: value}))


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/classify", {"model": "m", "input": "no template at all"}, "chat template"),
        ("/classify", {"model": "m"}, "either"),
        ("/v1/embeddings", {"input": PROMPT.partition("\n<|im_start|>a")[0]}, "last turn"),
        ("/score", {"text_1": [QUERY] * 2, "text_2": ANSWERS}, "as many"),
        ("/score", {"text_1": QUERY}, "text_2"),
        ("/rerank", {"query": QUERY}, "documents"),
        ("/predict", {"inputs": "plain"}, "templated"),
        (
            "/compare",
            {"conversation_history": [{"content": "q"}], "response_objs": []},
            "response_objs",
        ),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "q"}] * 2}, "assistant"),
        ("/get_reward", {"query": ["a"], "prompts": []}, "prompts"),
    ],
)
async def test_what_cannot_be_judged_is_told_why(serve, path, body, says):
    async with serve() as client:
        reply = await client.post(path, json=body)
    assert reply.status_code == 422
    assert says in reply.json()["detail"]


async def test_a_client_that_leaves_while_it_waits_leaves_nothing_behind(serve):
    async with serve() as client:
        waiting = asyncio.create_task(sent(client, "slime", "?k=2&group=8&window_s=30", ["11"]))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await until(lambda: not client.service.queue.waiting)
        assert (await client.get("/v1/verdicts")).json()["verdicts"] == []
