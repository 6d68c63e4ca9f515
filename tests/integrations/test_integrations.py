"""Each integration, called as its framework calls it (see the modules for versions), with a real server."""

import asyncio
import types

import pytest

from grm_service.client import AsyncClient, Client, NoVerdict
from grm_service.integrations import areal, common, nemo_gym, openrlhf, skyrl, slime, swift, trl, verl
from tests.integrations import stand_ins

QUERY = "Name a prime."
ANSWERS = ["11", "twelve", "13", "a prime is a number"]
FAILS = "please garbage"
PROMPT = f"<|im_start|>user\n{QUERY}<|im_end|>\n<|im_start|>assistant\n"


def turns(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def rewards(url, responses=ANSWERS, **options):
    with Client(url) as client:
        return client.rewards(QUERY, responses, **options).rewards


@pytest.mark.parametrize("form", ["text", "messages"])
def test_trl_judges_groups(configured, run, form):
    prompts = [QUERY] * 4 + [FAILS] * 2 + [QUERY + " "] * 2
    completions = [*ANSWERS, "a", "b", "11", "12"]
    if form == "messages":
        prompts = [turns(prompt) for prompt in prompts]
        completions = [[{"role": "assistant", "content": text}] for text in completions]
    logged, extra = {}, {}
    result = run(
        trl.grm_reward(
            prompts=prompts,
            completions=completions,
            completion_ids=[[1]] * 8,
            trainer_state=None,
            log_metric=logged.__setitem__,
            log_extra=extra.__setitem__,
            source=["x"] * 8,
        )
    )
    assert tuple(result[:4]) == rewards(configured)
    assert result[4:6] == [None, None], "a failure is not a reward"
    assert all(isinstance(reward, float) for reward in result[6:])
    assert logged["grm/failed"] == 0.25
    assert len(set(extra["grm_verdict"][:4])) == 1
    assert extra["grm_verdict"][4:6] == [None, None]


def test_trl_sends_dataset_columns(configured, run):
    more = {"reference": ["11"] * 4, "principles": [["It is a prime."]] * 4}
    result = run(trl.grm_reward(prompts=[QUERY] * 4, completions=ANSWERS, **more))
    principles = {"mode": "fixed", "items": [{"text": "It is a prime."}]}
    assert tuple(result) == rewards(configured, reference="11", principles=principles)


def test_trl_without_a_service(run):
    client = AsyncClient("http://127.0.0.1:9", timeout_s=0.5)
    result = run(trl.GRMReward(client)(prompts=[QUERY] * 2, completions=["a", "b"]))
    assert result == [None, None]


def test_new_event_loop_each_step(configured, run):
    for _ in range(3):
        result = run(trl.grm_reward(prompts=[QUERY] * 4, completions=ANSWERS))
        assert tuple(result) == rewards(configured)


def test_verl_has_the_same_keys(configured, run):
    scoring = [
        verl.compute_score("data", answer, "11", {"question": QUERY, "index": i}, k=2)
        for i, answer in enumerate(ANSWERS)
    ]

    async def together():
        return await asyncio.gather(*scoring)

    result = run(together())
    assert {tuple(score) for score in result} == {("score", "std", "counted")}
    assert result[0]["score"] == rewards(configured, ["11"], k=2, reference="11")[0]


def test_verl_without_a_prompt(configured, run):
    with pytest.raises(ValueError, match="put it there"):
        run(verl.compute_score("data", "11", None, {}))


def test_verl_failure_raises(configured, run):
    with pytest.raises(NoVerdict) as failed:
        run(verl.compute_score("data", "11", None, {"question": FAILS}))
    assert failed.value.code == "all_unreadable"


def samples(prompt=QUERY):
    return [stand_ins.sample(prompt=prompt, response=answer) for answer in ANSWERS]


def test_slime_judges_groups(configured, run):
    args = types.SimpleNamespace(dynamic_sampling_filter_path=None)
    assert tuple(run(slime.group_rm(args, samples()))) == rewards(configured)
    assert run(slime.single_rm(args, samples()[0])) == rewards(configured, ["11"])[0]
    assert tuple(run(slime.make(AsyncClient(configured), k=3)(args, samples()))) == rewards(configured, k=3)


def test_slime_parses_chat_templates(configured, run):
    group = samples(PROMPT)
    for sample in group:
        sample.response += "<|im_end|>"
    args = types.SimpleNamespace(dynamic_sampling_filter_path=None)
    assert tuple(run(slime.group_rm(args, group))) == rewards(configured)


def test_developer_and_tool_turns(configured, run):
    prompt = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": QUERY},
        {"role": "tool", "content": "primes: 2, 3"},
    ]
    (reward,) = run(trl.grm_reward(prompts=[prompt], completions=["11"]))
    assert isinstance(reward, float)


def test_empty_reference_is_ignored(configured, run):
    result = run(trl.grm_reward(prompts=[QUERY] * 4, completions=ANSWERS, reference=[""] * 4))
    assert tuple(result) == rewards(configured)


def test_slime_filter_drops_failed_groups(configured, run):
    """Without a filter the failure is raised."""
    filtered = types.SimpleNamespace(dynamic_sampling_filter_path="judged")
    group = samples(FAILS)
    for sample, reward in zip(group, run(slime.group_rm(filtered, group)), strict=True):
        sample.reward = reward
    assert not slime.judged(filtered, group)
    with pytest.raises(NoVerdict):
        run(slime.group_rm(types.SimpleNamespace(), group))


def test_swift_registration(configured, run, monkeypatch):
    orms = {}
    stand_ins.install(monkeypatch, "swift.rewards", orms=orms)
    swift.register(k=4)
    reward = orms["grm"](args=None)
    result = run(reward(ANSWERS, messages=[turns(QUERY, answer) for answer in ANSWERS], solution=["x"] * 4))
    assert tuple(result) == rewards(configured, k=4)
    with pytest.raises(NoVerdict):
        run(reward(["a"], messages=[turns(FAILS, "a")]))


def test_openrlhf_parses_chat_templates(configured):
    result = openrlhf.reward_func([f"{PROMPT}11<|im_end|>"], [PROMPT], ["11"])
    assert result["rewards"] == rewards(configured, ["11"], reference="11")[0]
    assert all(isinstance(value, int | float) for value in result["extra_logs"].values())
    with pytest.raises(ValueError, match="cut"):
        openrlhf.reward_func(["something else"], [PROMPT], [None])


def test_areal_and_skyrl_judge_alone(configured, run):
    result = run(areal.reward(PROMPT, "11<|im_end|>", None, None, answer="11"))
    assert result == rewards(configured, ["11"], reference="11")[0]
    assert skyrl.judge(turns(QUERY), "11", "11") == result


def test_gym_rows(configured, run):
    content = [{"type": "output_text", "text": "11"}]
    row = {
        "responses_create_params": {"input": turns(QUERY)},
        "response": {"output": [{"type": "reasoning"}, {"type": "message", "content": content}]},
        "reference": "11",
    }
    assert run(nemo_gym.judge(row)) == rewards(configured, ["11"], reference="11")[0]


def test_missing_url(monkeypatch):
    monkeypatch.delenv("GRM_URL", raising=False)
    common.service.cache_clear()
    with pytest.raises(common.NotConfigured, match="set GRM_URL"):
        common.service()


@pytest.mark.parametrize(("n", "sizes"), [(8, [8]), (64, [64]), (65, [32, 33]), (130, [43, 43, 44])])
def test_groups_are_consecutive_and_balanced(n, sizes):
    assert [len(group) for group in common.split_groups(["a"] * n)] == sizes
    assert [len(group) for group in common.split_groups(["a", "a", "b", "a"])] == [2, 1, 1]
