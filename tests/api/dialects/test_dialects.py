"""Each dialect replies in the format of its client, judges groups, and fails as its framework needs it."""

import asyncio
import json
import math

import pytest

from grm_service.api.dialects.registry import DialectRegistry
from grm_service.errors import BadSetting, Overloaded
from grm_service.settings import Settings
from tests.waiting import HANG_S, until

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


async def send(client, name, options="?k=4&group=4", answers=ANSWERS):
    path, body, _ = SINGLES[name]
    return await asyncio.gather(*(client.post(path + options, json=body(answer)) for answer in answers))


@pytest.mark.parametrize("name", SINGLES)
async def test_single_responses_form_a_group(serve, name):
    read = SINGLES[name][2]
    reference = "11" if name in ("single", "openrlhf", "slime") else None
    async with serve() as client:
        replies = await send(client, name)
        assert [reply.status_code for reply in replies] == [200] * 4, replies[0].text
        assert replies[0].headers["content-type"].startswith("application/json")
        rewards = [read(reply.json()) for reply in replies]
        assert rewards == pytest.approx(await native(client, reference=reference), abs=1e-4)
        verdicts = (await client.get("/v1/verdicts")).json()["verdicts"]
        assert verdicts[1]["responses"] == 4
        metrics = (await client.get("/metrics")).text
        assert 'outcome="complete"' in metrics


@pytest.mark.parametrize(
    ("label", "reference"),
    [("", None), (" ", None), (None, None), ([], None), (42, "42"), (["x"], "x"), ({"a": 1}, '{"a": 1}')],
    ids=repr,
)
@pytest.mark.parametrize("name", ["openrlhf", "slime"])
async def test_labels_are_references(serve, name, label, reference):
    path, body, read = SINGLES[name]
    sample = body("11")
    sample |= {"label": label} if name == "slime" else {"labels": [label]}
    async with serve() as client:
        reply = await client.post(path + "?k=4&window_s=0", json=sample)
        alone = await native(client, responses=["11"], reference=label)
        assert read(reply.json()) == pytest.approx(alone[0], abs=1e-4)
        (summary, _) = (await client.get("/v1/verdicts")).json()["verdicts"]
        record = (await client.get(f"/v1/verdicts/{summary['id']}")).json()
    assert record["request"]["reference"] == reference


@pytest.mark.parametrize("label", ["\0", "\ud800"], ids=["nul", "surrogate"])
@pytest.mark.parametrize("name", ["openrlhf", "slime"])
async def test_unstorable_label_is_refused(serve, name, label):
    path, body, _ = SINGLES[name]
    sample = body("11") | ({"label": label} if name == "slime" else {"labels": [label]})
    async with serve() as client:
        headers = {"Content-Type": "application/json"}
        reply = await client.post(path + "?k=1&window_s=0", content=json.dumps(sample), headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (422, "bad_request")


@pytest.mark.parametrize("name", SINGLES)
async def test_lone_response_is_judged_alone(serve, name):
    async with serve() as client:
        for options in ("?k=2&group=4&window_s=0.05", "?k=2&window_s=0"):
            (reply,) = await send(client, name, options, ["11"])
            assert math.isfinite(SINGLES[name][2](reply.json()))


@pytest.mark.parametrize("name", SINGLES)
async def test_unreadable_samples_are_no_reward(serve, name):
    async with serve(script="unreadable") as client:
        (reply,) = await send(client, name, "?k=2&window_s=0", ["11"])
    if name == "nemo_gym":
        assert reply.status_code == 200
        result = reply.json()
        assert result["_ng_failure_class"] == "judge_failed"
        assert "all_unreadable" in result["_ng_failure_judge_error"]
        assert result["instance_config"]["mask_sample"] is result["mask_sample"] is True
        assert result["response"] == gym("11")["response"]
    else:
        assert reply.status_code == 502
        assert reply.json()["code"] == "all_unreadable"


async def test_row_without_indices_gets_an_error(serve):
    """verifiers would read the 0 of a masked row as a reward."""
    async with serve(script="unreadable") as client:
        row = gym("11")
        del row["_ng_task_index"]
        reply = await client.post("/verify?k=2&window_s=0", json=row)
    assert (reply.status_code, reply.json()["code"]) == (502, "all_unreadable")


@pytest.mark.parametrize("name", SINGLES)
async def test_fallback_is_returned_and_counted(serve, name):
    async with serve(script="unreadable") as client:
        (reply,) = await send(client, name, "?k=2&window_s=0&fallback=5.5", ["11"])
        assert SINGLES[name][2](reply.json()) == 5.5
        metrics = (await client.get("/metrics")).text
    assert "grm_fallbacks_total{code=" in metrics


@pytest.mark.parametrize("name", SINGLES)
async def test_invalid_option_is_refused(serve, name):
    async with serve() as client:
        for options in ("?kk=4", "?k=many", "?k=0", "?fallback=nan", "?transform=square"):
            (reply,) = await send(client, name, options, ["11"])
            assert reply.status_code == 422, options
            assert options[1:].partition("=")[0] in reply.json()["detail"]


def fill(service, times):
    """Let the queue refuse a number of requests as full."""
    reserve, remaining = service.queue.reserve, times

    def full(*args):
        nonlocal remaining
        if remaining:
            remaining -= 1
            raise Overloaded(2048, 1)
        return reserve(*args)

    service.queue.reserve = full


@pytest.mark.parametrize("name", ["openrlhf", "slime", "nemo_gym"])
async def test_full_queue_holds_the_request(serve, name):
    async with serve() as client:
        fill(client.service, 1)
        (reply,) = await send(client, name, "?k=2&window_s=0", ["11"])
        assert reply.status_code == 200
        assert "_ng_failure_class" not in reply.text


async def test_held_request_ends_at_its_timeout(serve):
    async with serve() as client:
        fill(client.service, 1000)
        (reply,) = await send(client, "openrlhf", "?k=2&window_s=0&timeout_s=1.5", ["11"])
        assert reply.status_code == 429


@pytest.mark.parametrize("name", ["vllm", "sglang"])
async def test_full_queue_is_503_for_verl(serve, name):
    """verl does not retry after a 4xx."""
    async with serve() as client:
        fill(client.service, 1)
        (reply,) = await send(client, name, "?k=2&window_s=0", ["11"])
        assert reply.status_code == 503
        assert reply.json()["code"] == "overloaded"
        assert int(reply.headers["retry-after"]) >= 1


async def test_group_transform_needs_a_group(serve):
    async with serve() as client:
        replies = await send(client, "slime", "?k=4&group=4&transform=zscore")
        values = [reply.json() for reply in replies]
        assert sum(values) == pytest.approx(0, abs=1e-6)
        assert max(values) > 0
        (alone,) = await send(client, "slime", "?k=4&window_s=0&transform=zscore", ["another"])
        assert (alone.status_code, alone.json()["code"]) == (503, "siblings_missing")


async def test_group_transform_counts_equal_responses(serve):
    async with serve() as client:
        answers = ["11", "11", "11", "twelve"]
        replies = await send(client, "slime", "?k=4&group=4&transform=zscore", answers)
        values = [reply.json() for reply in replies]
        assert values[0] == values[1] == values[2] != values[3]
        assert sum(values) == pytest.approx(0, abs=1e-6)
        same = await send(client, "slime", "?k=4&group=4&transform=zscore", ["13"] * 4)
        assert [reply.json() for reply in same] == [0.0] * 4


async def test_slime_prefill_belongs_to_the_response(serve):
    async with serve() as client:
        body = {"prompt": f"{PROMPT}<think>\n", "response": "Hm.</think>11<|im_end|>", "label": None}
        assert (await client.post("/slime?k=2&window_s=0", json=body)).status_code == 200
        summary = (await client.get("/v1/verdicts")).json()["verdicts"][0]
        record = (await client.get(f"/v1/verdicts/{summary['id']}")).json()
    assert record["request"]["responses"] == ["<think>\nHm.</think>11"]


async def test_slime_as_dict(serve):
    async with serve() as client:
        (reply,) = await send(client, "slime", "?k=2&window_s=0&as_dict=true", ["11"])
    result = reply.json()
    assert result["judged"] == 1
    assert result["raw"] == result["reward"]
    assert all(isinstance(value, float | int) for value in result.values())


async def test_openrlhf_scores_and_logs(serve):
    async with serve() as client:
        body = {"query": [chatml(a) for a in ANSWERS], "prompts": [PROMPT] * 4, "labels": [None] * 4}
        reply = (await client.post("/get_reward?k=4&group=4", json=body)).json()
    assert reply["rewards"] == pytest.approx([1 + 9 * score for score in reply["scores"]])
    for values in reply["extra_logs"].values():
        assert len(values) == 4
        assert all(isinstance(value, float | int) for value in values)


async def test_openrlhf_truncated_prompt(serve):
    async with serve() as client:
        body = {"query": ["something else"], "prompts": [PROMPT], "labels": [None]}
        reply = await client.post("/get_reward", json=body)
    assert reply.status_code == 422
    assert "cut" in reply.json()["detail"]


async def test_concurrent_repeat_is_judged_once(serve):
    async with serve() as client:
        first, again = await asyncio.gather(
            *(send(client, "openrlhf", "?k=2&window_s=0", ["11"]) for _ in "ab")
        )
        assert first[0].json() == again[0].json()
        assert len((await client.get("/v1/verdicts")).json()["verdicts"]) == 1


async def test_gym_groups_and_rows(serve):
    async with serve() as client:
        rows = [
            gym(answer, _ng_group_id=group, _ng_group_attempt=0, _ng_rollout_index=i)
            for group in ("g1", "g2")
            for i, answer in enumerate(ANSWERS[:2])
        ]
        replies = await asyncio.gather(*(client.post("/verify?k=2&group=2", json=row) for row in rows))
        for row, reply in zip(rows, replies, strict=True):
            result = reply.json()
            assert {name: result[name] for name in row} == row
            assert result["group_size"] == 2
        # Both groups have the same prompt and responses, hence the same verdict.
        assert [r.json()["reward"] for r in replies[:2]] == [r.json()["reward"] for r in replies[2:]]


async def test_gym_empty_response_is_judged(serve):
    async with serve() as client:
        row = gym("11")
        row["response"]["output"].pop()
        result = (await client.post("/verify?k=2&window_s=0", json=row)).json()
        record = (await client.get("/v1/verdicts")).json()["verdicts"][0]
        detail = (await client.get(f"/v1/verdicts/{record['id']}")).json()
    assert result["judged"] == 1
    assert detail["request"]["responses"] == [""]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("profile=typo", "unknown_profile"),
        ("k_meta=2", "meta_rm_not_served"),
        ("mode=fixed", "bad_request"),
    ],
)
async def test_gym_option_error_is_not_masked(serve, options, code):
    async with serve() as client:
        reply = await client.post(f"/verify?{options}&window_s=0", json=gym("11"))
    assert reply.status_code in (404, 422)
    assert reply.json()["code"] == code


@pytest.mark.parametrize(
    "row",
    [{"note": "\ud800"}, {"note": float("nan")}, {"response": {"output": [], "note": "\ud800"}}],
    ids=["surrogate", "nan", "deeper"],
)
async def test_gym_unserializable_row_is_refused(serve, row):
    async with serve() as client:
        headers = {"Content-Type": "application/json"}
        reply = await client.post(
            "/verify?k=2&window_s=0", content=json.dumps(gym("11", **row)), headers=headers
        )
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")


async def test_gym_masked_row_replaces_instance_config(serve):
    async with serve(script="unreadable") as client:
        reply = await client.post("/verify?k=2&window_s=0", json=gym("11", instance_config="abc"))
    assert reply.json()["instance_config"] == {"mask_sample": True}


async def test_gym_means_exclude_masked_rows(serve):
    rows = [
        {"_ng_task_index": 0, "reward": 4.0, "judged": 1.0},
        {"_ng_task_index": 1, "reward": 8.0, "judged": 1.0, "note": "x"},
        {"_ng_task_index": 1, "reward": 0.0, "_ng_failure_class": "judge_failed"},
    ]
    rows[1] |= {"infinite": 1e999, "long": 10**400}
    async with serve() as client:
        body, headers = json.dumps({"verify_responses": rows}), {"Content-Type": "application/json"}
        result = (await client.post("/aggregate_metrics", content=body, headers=headers)).json()
        empty = (await client.post("/aggregate_metrics", json={"verify_responses": rows[2:]})).json()
    assert result["key_metrics"] == {"mean/reward": 6.0}
    assert result["agent_metrics"] == {"mean/reward": 6.0, "mean/judged": 1.0}
    assert [task["mean/reward"] for task in result["group_level_metrics"]] == [4.0, 8.0]
    assert empty["key_metrics"] == {}


async def test_gym_compare_has_every_pair(serve):
    responses = [gym(answer)["response"] for answer in ANSWERS[:3]]
    body = {"conversation_history": [{"role": "user", "content": QUERY}], "response_objs": responses}
    async with serve() as client:
        plain, shaped = [
            (await client.post(path, json=body)).json()
            for path in ("/compare?k=4", "/compare?k=4&transform=zscore")
        ]
        alone = (await client.post("/compare?k=4", json=body | {"response_objs": responses[:1]})).json()
    rewards = plain["rewards"]
    assert plain["comparison_results"] == [
        {
            "response_i": i,
            "response_j": j,
            "judge_idx": 0,
            "score_1": rewards[i],
            "score_2": rewards[j],
            "ranking": None,
        }
        for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    assert shaped["rewards"] != rewards
    assert shaped["comparison_results"] == plain["comparison_results"]
    assert alone["comparison_results"] is None


async def test_gym_compares_no_fallbacks(serve):
    body = {
        "conversation_history": [{"role": "user", "content": QUERY}],
        "response_objs": [gym(answer)["response"] for answer in ANSWERS],
    }
    async with serve(script="unreadable") as client:
        reply = (await client.post("/compare?k=2&fallback=5.5", json=body)).json()
    assert reply["rewards"] == [5.5] * 4
    assert reply["comparison_results"] is None


async def test_gym_compare_with_a_principle(serve):
    async with serve() as client:
        body = {
            "conversation_history": [{"role": "user", "content": QUERY}],
            "response_objs": [gym(answer)["response"] for answer in ANSWERS],
            "principle": "It is a prime.",
        }
        result = (await client.post("/compare?k=4", json=body)).json()
        summary = (await client.get("/v1/verdicts")).json()["verdicts"][0]
        record = (await client.get(f"/v1/verdicts/{summary['id']}")).json()
        assert (await client.post("/seed_session", json={"x": 1})).json() == {}
        assert (await client.get("/reverify_mode")).json() == "stateless"
    assert len(result["rewards"]) == 4
    assert record["standard"] == [{"text": "It is a prime.", "weight": None}]
    assert record["request"]["principles"]["mode"] == "fixed"


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
async def test_rerank_judges_one_group(serve, path):
    async with serve() as client:
        body = {"model": "m", "query": QUERY, "documents": [*ANSWERS[:3], {"text": ANSWERS[3]}], "top_n": 3}
        result = (await client.post(path + "?k=4", json=body)).json()
        rewards = await native(client)
    scores = [row["relevance_score"] for row in result["results"]]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 3
    for row in result["results"]:
        assert row["relevance_score"] == pytest.approx((rewards[row["index"]] - 1) / 9)
        assert row["document"]["text"] == ANSWERS[row["index"]]


async def test_tei_rerank_and_predict(serve):
    async with serve() as client:
        body = {"query": QUERY, "texts": ANSWERS, "return_text": True}
        result = (await client.post("/rerank?k=4", json=body)).json()
        assert {row["index"] for row in result} == {0, 1, 2, 3}
        assert result[0]["text"] == ANSWERS[result[0]["index"]]
        for inputs, count in (
            ([QUERY, "11"], None),
            ([[QUERY, "11"], [QUERY, "12"]], 2),
            (chatml("11"), None),
        ):
            labels = (await client.post("/predict?k=2", json={"inputs": inputs})).json()
            first = labels[0] if count is None else labels[0][0]
            assert len(labels) == (count or 1)
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
async def test_score_keeps_order(serve, body, count):
    async with serve() as client:
        result = (await client.post("/v1/score?k=4", json=body)).json()
    assert [row["index"] for row in result["data"]] == list(range(count))
    assert all(0 <= row["score"] <= 1 for row in result["data"])


async def test_tei_lists_and_errors(serve):
    async with serve() as client:
        labels = (await client.post("/predict?k=2", json={"inputs": [[chatml("11")], [QUERY, "12"]]})).json()
        assert [len(row) for row in labels] == [1, 1]
        fill(client.service, 2)
        for path, body in (
            ("/predict", {"inputs": [QUERY, "a"]}),
            ("/rerank", {"query": "q", "texts": ["b"]}),
        ):
            reply = await client.post(path, json=body)
            assert reply.status_code == 429
            assert reply.json()["error"] == "Model is overloaded"
            assert reply.json()["error_type"] == "overloaded"


async def test_pairs_are_judged_concurrently(serve):
    async with serve() as client:
        max_in_flight, reserve = 0, client.service.queue.reserve

        def count(*args):
            nonlocal max_in_flight
            max_in_flight = max(max_in_flight, client.service.queue.in_flight)
            return reserve(*args)

        client.service.queue.reserve = count
        await client.post("/score?k=2", json={"text_1": ["a", "b", "c"], "text_2": ["d", "e", "f"]})
    assert max_in_flight >= 4


async def test_chat_does_not_wait(serve):
    async with serve(group_window_s=600) as client, asyncio.timeout(HANG_S):
        (reply,) = await send(client, "chat", "?k=2", ["11"])
    assert reply.status_code == 200


async def test_server_default_options(serve):
    async with serve(dialect_options="k=2&group=4", group_window_s=600) as client, asyncio.timeout(HANG_S):
        replies = await send(client, "nemo_gym", "")
        assert {reply.json()["group_size"] for reply in replies} == {4}
        assert {reply.json()["samples"] for reply in replies} == {2}
        (own,) = await send(client, "nemo_gym", "?k=3&window_s=0", ["another"])
        assert own.json()["samples"] == 3


async def test_disabled_dialect_is_404(serve):
    async with serve(dialects="slime") as client:
        (reply,) = await send(client, "slime", "?window_s=0", ["11"])
        assert reply.status_code == 200
        (reply,) = await send(client, "openrlhf", "", ["11"])
        assert reply.status_code == 404
    async with serve(dialects="none") as client:
        (reply,) = await send(client, "slime", "", ["11"])
        assert reply.status_code == 404


@pytest.mark.parametrize(
    ("setting", "value"),
    [("dialects", "slime,verl"), ("dialect_options", "kk=4"), ("dialect_options", "k=many")],
)
def test_invalid_setting_is_refused(setting, value):
    with pytest.raises(BadSetting, match=f"GRM_{setting.upper()}"):
        DialectRegistry.from_settings(Settings(**{setting: value}))


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
async def test_invalid_body_is_explained(serve, path, body, says):
    async with serve() as client:
        reply = await client.post(path, json=body)
    assert reply.status_code == 422
    assert says in reply.json()["detail"]


async def test_client_leaves_while_waiting(serve):
    async with serve() as client:
        waiting = asyncio.create_task(send(client, "slime", "?k=2&group=8&window_s=30", ["11"]))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await until(lambda: not client.service.queue.waiting)
        assert (await client.get("/v1/verdicts")).json()["verdicts"] == []
