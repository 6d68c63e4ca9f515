"""Preference pairs from drafts of known quality (world.py)."""

import asyncio
import json
from dataclasses import replace
from importlib.util import find_spec

import pytest

from grm_service.audit.queries import Queries, Search
from grm_service.engines.scripted import ScriptedEngine
from grm_service.errors import BadTask, ContentFiltered, EngineError, PolicyFailed, UpstreamDenied
from grm_service.improving.pairs import ROUTE, Pair, PairThresholds, judge_prompts, select_pair, write_pairs
from grm_service.improving.prompt_file import PromptItem
from grm_service.improving.run_folder import COMPARED, PAIRS, PairsFolder, PairsSetup, PromptResult
from grm_service.improving.run_folder import SETUP as SETUP_FILE
from grm_service.types import Message
from tests.improving.world import engine_of, noisy, quality
from tests.meta_rm import ScriptedMetaRM, guide

SETUP = PairsSetup("judge", "scripted", "smollm2-135m", "sha256:1", n=3, k=4, max_tokens=32)
THRESHOLDS = PairThresholds()
DRAFTS = ("A draft of quality 2.", "A draft of quality 8.", "One of quality 5.")
RESULT = PromptResult(
    "1", "d", ("worst", "best, and longer", "mid"), rewards=(2.0, 6.0, 4.0), scores=((1, 5, 4), (3, 7, 4))
)


def item(*drafts, name="1", query="Name a prime."):
    return PromptItem(name, (Message("user", query),), drafts)


def prompts(n):
    return [item(name=str(i), query=f"Name prime number {i}.") for i in range(n)]


def by_seed(prompt, params):
    return f"A draft of quality {1 + params.seed % 10}."


async def run(open_world, folder, prompts, engine=None, setup=SETUP, concurrency=2, thresholds=THRESHOLDS):
    async with open_world(engine or engine_of(by_seed)) as (service, policy):
        with PairsFolder(folder, setup) as into:
            await judge_prompts(prompts, into, service, policy, concurrency)
            return write_pairs(prompts, into, thresholds)


def rows(folder):
    return [json.loads(line) for line in (folder / PAIRS).read_text().splitlines()]


@pytest.mark.anyio
async def test_prompts_with_cut_thinking_are_dropped(open_world, tmp_path):
    def policy(prompt, params):
        cut = prompt.messages[-1].content == "Name prime number 1."
        return (
            "<think>A draft of quality 9." if cut else "<think>Quality 9?</think>" + by_seed(prompt, params)
        )

    report = await run(open_world, tmp_path, prompts(2), engine_of(policy), thresholds=PairThresholds(0.1, 0))
    assert (report.pairs, report.dropped) == (1, {"cut_in_thinking": 1})
    (row,) = rows(tmp_path)
    assert "think" not in row["chosen"][0]["content"]


def test_best_is_chosen_over_worst():
    assert select_pair(RESULT, PairThresholds()) == Pair(chosen=1, rejected=0, margin=4.0, agreement=1.0)


@pytest.mark.parametrize(
    ("changed", "thresholds", "reason"),
    [
        ({}, PairThresholds(margin=4.5), "small_margin"),
        ({"rewards": (4.0, 4.0, 4.0)}, PairThresholds(0, 0), "small_margin"),
        ({"scores": ((5, 5, 4), (3, 7, 4))}, PairThresholds(), "low_agreement"),
        ({"scores": ((5, None, 4), (None, 7, 4))}, PairThresholds(), "low_agreement"),
        ({"cut": (1,)}, PairThresholds(), "cut"),
        ({"error": "all_unreadable"}, PairThresholds(), "all_unreadable"),
    ],
)
def test_dropped_prompts_have_a_reason(changed, thresholds, reason):
    assert select_pair(replace(RESULT, **changed), thresholds) == reason


def test_shorter_of_equal_drafts_is_chosen():
    equal = replace(RESULT, rewards=(2.0, 6.0, 6.0), scores=((1, 5, 5), (3, 7, 7)))
    assert select_pair(equal, PairThresholds()).chosen == 2


@pytest.mark.anyio
async def test_existing_drafts_need_no_policy(open_world, tmp_path):
    engine = engine_of(None, quality)
    report = await run(open_world, tmp_path / "out", [item(*DRAFTS)], engine)
    (row,) = rows(tmp_path / "out")
    assert row["prompt"] == [{"role": "user", "content": "Name a prime."}]
    assert row["chosen"] == [{"role": "assistant", "content": DRAFTS[1]}]
    assert row["rejected"] == [{"role": "assistant", "content": DRAFTS[0]}]
    provenance = row["provenance"]
    assert (provenance["policy"], provenance["judge"], provenance["profile"]) == (
        None,
        "scripted",
        "smollm2-135m",
    )
    assert (provenance["rewards"], provenance["margin"], provenance["agreement"]) == ([8, 2], 6, 1)
    assert (provenance["drafts"], provenance["samples"], provenance["verdict"][:3]) == (3, 4, "vd_")
    assert (report.prompts, report.pairs, report.dropped, report.margin) == (1, 1, {}, 6)


@pytest.mark.anyio
async def test_same_drafts_are_dropped(open_world, tmp_path):
    same = [item("caf\u00e9", " cafe\u0301\r\n")]
    report = await run(open_world, tmp_path / "out", same, engine_of(None, quality))
    assert report.dropped == {"same_drafts": 1}


@pytest.mark.anyio
async def test_missing_drafts_are_written(open_world, tmp_path):
    report = await run(open_world, tmp_path / "out", prompts(30), engine_of(by_seed, noisy))
    pairs = rows(tmp_path / "out")
    assert report.prompts == 30
    assert report.pairs == len(pairs) > 0
    assert report.pairs + sum(report.dropped.values()) == 30
    assert set(report.dropped) <= {"small_margin", "low_agreement", "same_drafts"}
    assert "small_margin" in report.dropped
    for row in pairs:
        better, worse = (quality(row[name][0]["content"]) for name in ("chosen", "rejected"))
        assert better > worse
        assert row["provenance"]["margin"] >= 1
        assert row["provenance"]["policy"] == "scripted"


@pytest.mark.anyio
async def test_only_prompt_errors_are_dropped(open_world, tmp_path):
    report = await run(open_world, tmp_path / "a", [item(*DRAFTS)], ScriptedEngine("unreadable"))
    assert report.dropped == {"all_unreadable": 1}
    report = await run(open_world, tmp_path / "b", [item("alike", "alike")])
    assert report.dropped == {"same_drafts": 1}

    def fails(prompt, params):
        raise EngineError("out of memory")

    with pytest.raises(PolicyFailed, match="out of memory"):
        await run(open_world, tmp_path / "c", prompts(2), engine_of(fails))


@pytest.mark.anyio
async def test_killed_run_resumes(open_world, tmp_path):
    whole = await run(open_world, tmp_path / "whole", prompts(8))
    written = []

    class Dies(BaseException):
        pass

    def dies(prompt, params):
        written.append(prompt)
        if len(written) > 14:
            raise Dies
        return by_seed(prompt, params)

    with pytest.raises(Dies):
        await run(open_world, tmp_path / "cut", prompts(8), engine_of(dies), concurrency=1)
    file = tmp_path / "cut" / COMPARED
    assert len(file.read_text().splitlines()) == 4
    file.write_bytes(file.read_bytes()[:-20])
    assert not (tmp_path / "cut" / PAIRS).exists()
    written.clear()

    def lives(prompt, params):
        written.append(prompt)
        return by_seed(prompt, params)

    assert await run(open_world, tmp_path / "cut", prompts(8), engine_of(lives)) == whole
    assert len(written) == 5 * SETUP.n, "three prompts were complete"

    def compared(folder):
        return [(row["prompt"], row["chosen"], row["rejected"]) for row in rows(tmp_path / folder)]

    assert compared("cut") == compared("whole")


@pytest.mark.anyio
async def test_new_thresholds_need_no_verdict(open_world, tmp_path):
    await run(open_world, tmp_path / "out", prompts(8), thresholds=PairThresholds(margin=0.5))
    many = rows(tmp_path / "out")
    with PairsFolder(tmp_path / "out", SETUP) as folder:
        report = write_pairs(prompts(8), folder, PairThresholds(margin=6))
    few = rows(tmp_path / "out")
    assert 0 < report.pairs == len(few) < len(many)
    assert all(row in many for row in few)


@pytest.mark.anyio
async def test_folder_is_for_one_run(open_world, tmp_path):
    await run(open_world, tmp_path / "out", prompts(1))
    with pytest.raises(BadTask, match=r"n 3, now 5.*use a new folder"):
        await run(open_world, tmp_path / "out", prompts(1), setup=replace(SETUP, n=5))
    with pytest.raises(BadTask, match="0 had different texts"):
        await run(open_world, tmp_path / "out", [item(*DRAFTS, name="0")])
    with PairsFolder(tmp_path / "out", SETUP), pytest.raises(BadTask, match="another grm pairs"):
        await run(open_world, tmp_path / "out", prompts(1))


@pytest.mark.anyio
async def test_concurrency_is_limited(open_world, tmp_path):
    engine, running, highest = engine_of(by_seed), 0, 0
    complete = ScriptedEngine.complete

    async def counting(prompt, params):
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        await asyncio.sleep(0)
        running -= 1
        return await complete(engine, prompt, params)

    engine.complete = counting
    await run(open_world, tmp_path / "out", prompts(6), engine, setup=replace(SETUP, k=3), concurrency=1)
    assert highest == 3


@pytest.mark.anyio
async def test_judge_options_reach_the_judge(open_world, tmp_path):
    options = {"score": "soft", "k_meta": 2, "critique_tokens": 300, "critique_temperature": 0.5}
    setup = replace(SETUP, **options, timeout_s=60)
    async with open_world(engine_of(by_seed)) as (service, policy):
        guide(service, ScriptedMetaRM())
        judge, records = service.judge, []

        async def recording(task, **kwargs):
            records.append(await judge(task, **kwargs))
            return records[-1]

        service.judge = recording
        with PairsFolder(tmp_path / "out", setup) as folder:
            await judge_prompts([item(*DRAFTS)], folder, service, policy, 1)
    (record,) = records
    assert record.verdict.vote.rewards == (1.75, 7.75, 4.75)
    assert sum(sample.counted for sample in record.verdict.samples) == 2
    used = record.task.options
    assert (used.score, used.k_meta, used.max_tokens, used.temperature) == tuple(options.values())
    assert used.timeout_s == 60


@pytest.mark.anyio
async def test_early_stopping_reaches_the_judge(open_world, tmp_path):
    setup = replace(SETUP, k=16, stop="exact")
    await run(open_world, tmp_path / "out", [item(*DRAFTS)], engine_of(None), setup)
    assert rows(tmp_path / "out")[0]["provenance"]["samples"] < 16


@pytest.mark.anyio
async def test_setup_without_new_options_resumes(open_world, tmp_path):
    await run(open_world, tmp_path / "out", prompts(1))
    file = tmp_path / "out" / SETUP_FILE
    before = json.loads(file.read_text())
    for name in ("k_meta", "score", "stop", "timeout_s", "critique_tokens", "critique_temperature"):
        del before[name]
    file.write_text(json.dumps(before))
    report = await run(open_world, tmp_path / "out", prompts(1))
    assert report.prompts == 1
    with pytest.raises(BadTask, match="score 'hard', now 'soft'"):
        await run(open_world, tmp_path / "out", prompts(1), setup=replace(SETUP, score="soft"))


@pytest.mark.anyio
async def test_verdicts_are_recorded_by_route(open_world, tmp_path):
    async with open_world(engine_of(by_seed)) as (service, policy):
        with PairsFolder(tmp_path / "out", SETUP) as folder:
            await judge_prompts(prompts(1), folder, service, policy, 1)
            entry = next(Queries(service.trail.store.database).bodies(Search(id=folder.done["0"].verdict)))
    assert f'"route":"{ROUTE}"' in entry.body


@pytest.mark.filterwarnings("ignore")  # TRL, peft and transformers warn about each other
@pytest.mark.skipif(
    not all(map(find_spec, ("trl", "peft", "datasets"))), reason="pip install 'grm-service[train]'"
)
def test_pairs_train_a_dpo_step(open_world, tmp_path):
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    from tests.engines.tiny import save_model

    asyncio.run(run(open_world, tmp_path / "out", prompts(8)))
    tiny = save_model(tmp_path / "policy", "llama")
    data = load_dataset(
        "json", data_files=str(tmp_path / "out" / PAIRS), split="train", cache_dir=str(tmp_path / "cache")
    )
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny),
        processing_class=AutoTokenizer.from_pretrained(tiny),
        train_dataset=data,
        args=DPOConfig(
            output_dir=str(tmp_path / "run"),
            max_steps=1,
            per_device_train_batch_size=4,
            logging_steps=1,
            use_cpu=True,
            bf16=False,
            report_to="none",
            save_strategy="no",
            seed=0,
        ),
    )
    before = [value.detach().clone() for value in trainer.model.parameters()]
    trainer.train()
    moved = [not old.equal(new) for old, new in zip(before, trainer.model.parameters(), strict=True)]
    assert any(moved)
    assert trainer.state.log_history[0]["loss"] == pytest.approx(0.693, abs=0.01)


def refusing(word, error):
    """Return an engine that refuses prompts with a word."""
    engine = engine_of(by_seed)
    complete = engine.complete

    async def complete_or_refuse(prompt, params):
        if word in prompt.messages[-1].content:
            raise error
        return await complete(prompt, params)

    engine.complete = complete_or_refuse
    return engine


@pytest.mark.anyio
@pytest.mark.parametrize("drafts", [(), DRAFTS])
async def test_refused_prompt_is_dropped(open_world, tmp_path, drafts):
    engine = refusing("number 1", ContentFiltered("filtered"))
    items = [item(*drafts, name=str(i), query=f"Name prime number {i}.") for i in range(3)]
    report = await run(open_world, tmp_path / "out", items, engine)
    assert report.dropped["content_filtered"] == 1
    assert len(report.dropped) + report.pairs <= 3


@pytest.mark.anyio
async def test_refused_key_ends_the_pairs(open_world, tmp_path):
    with pytest.raises(UpstreamDenied, match="bad key"):
        await run(open_world, tmp_path / "out", prompts(3), refusing("", UpstreamDenied("x", "bad key")))
