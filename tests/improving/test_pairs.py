"""Preference pairs out of drafts whose qualities are known."""

import asyncio
import json
from dataclasses import replace
from importlib.util import find_spec

import pytest

from grm_service.engines.scripted import ScriptedEngine
from grm_service.errors import BadTask, EngineError, PolicyFailed
from grm_service.improving.pairs import ROUTE, Pair, PairThresholds, choose, compare_all, write
from grm_service.improving.prompts import PromptItem, read
from grm_service.improving.run_folder import COMPARED, PAIRS, PairsFolder, PairsSetup, PromptResult
from grm_service.types import Message
from tests.improving.world import engine_of, noisy, quality

SETUP = PairsSetup("judge", "scripted", "smollm2-135m", "sha256:1", n=3, k=4, max_tokens=32)
BAR = PairThresholds()
SAID = ("A draft of quality 2.", "A draft of quality 8.", "One of quality 5.")
COMPARISON = PromptResult(
    "1", "d", ("worst", "best, and longer", "mid"), rewards=(2.0, 6.0, 4.0), scores=((1, 5, 4), (3, 7, 4))
)


def asked(*drafts, name="1", query="Name a prime."):
    return PromptItem(name, (Message("user", query),), drafts)


def prompts(n):
    return [asked(name=str(i), query=f"Name prime number {i}.") for i in range(n)]


def by_seed(prompt, params):
    return f"A draft of quality {1 + params.seed % 10}."


async def run(open_world, folder, prompts, engine=None, setup=SETUP, at_once=2, bar=BAR):
    async with open_world(engine or engine_of(by_seed)) as (service, policy):
        with PairsFolder(folder, setup) as into:
            await compare_all(prompts, into, service, policy, at_once)
            return write(prompts, into, bar)


def rows(folder):
    return [json.loads(line) for line in (folder / PAIRS).read_text().splitlines()]


def test_the_best_is_chosen_over_the_worst():
    assert choose(COMPARISON, PairThresholds()) == Pair(chosen=1, rejected=0, margin=4.0, agreement=1.0)


@pytest.mark.parametrize(
    ("changed", "bar", "reason"),
    [
        ({}, PairThresholds(margin=4.5), "small_margin"),
        ({"rewards": (4.0, 4.0, 4.0)}, PairThresholds(0, 0), "small_margin"),
        ({"scores": ((5, 5, 4), (3, 7, 4))}, PairThresholds(), "low_agreement"),
        ({"scores": ((5, None, 4), (None, 7, 4))}, PairThresholds(), "low_agreement"),
        ({"cut": (1,)}, PairThresholds(), "cut"),
        ({"error": "all_unreadable"}, PairThresholds(), "all_unreadable"),
    ],
)
def test_what_makes_no_pair_is_dropped_with_the_reason(changed, bar, reason):
    assert choose(replace(COMPARISON, **changed), bar) == reason


def test_of_equal_ones_the_shorter_is_chosen():
    equal = replace(COMPARISON, rewards=(2.0, 6.0, 6.0), scores=((1, 5, 5), (3, 7, 7)))
    assert choose(equal, PairThresholds()).chosen == 2


@pytest.mark.anyio
async def test_existing_drafts_are_paired_and_no_policy_is_asked(open_world, tmp_path):
    engine = engine_of(None, quality)
    report = await run(open_world, tmp_path / "out", [asked(*SAID)], engine)
    (row,) = rows(tmp_path / "out")
    assert row["prompt"] == [{"role": "user", "content": "Name a prime."}]
    assert row["chosen"] == [{"role": "assistant", "content": SAID[1]}]
    assert row["rejected"] == [{"role": "assistant", "content": SAID[0]}]
    told = row["provenance"]
    assert (told["policy"], told["judge"], told["profile"]) == (None, "scripted", "smollm2-135m")
    assert (told["rewards"], told["margin"], told["agreement"]) == ([8, 2], 6, 1)
    assert (told["drafts"], told["samples"], told["verdict"][:3]) == (3, 4, "vd_")
    assert (report.prompts, report.kept, report.dropped, report.margin) == (1, 1, {}, 6)


@pytest.mark.anyio
async def test_drafts_are_written_where_there_are_none_and_what_is_dropped_is_counted(open_world, tmp_path):
    given = prompts(30)
    report = await run(open_world, tmp_path / "out", given, engine_of(by_seed, noisy))
    kept = rows(tmp_path / "out")
    assert report.prompts == 30
    assert report.kept == len(kept) > 0
    assert report.kept + sum(report.dropped.values()) == 30
    assert set(report.dropped) <= {"small_margin", "low_agreement", "same_drafts"}
    assert "small_margin" in report.dropped
    for row in kept:
        better, worse = (quality(row[name][0]["content"]) for name in ("chosen", "rejected"))
        assert better > worse
        assert row["provenance"]["margin"] >= 1
        assert row["provenance"]["policy"] == "scripted"


@pytest.mark.anyio
async def test_what_cannot_be_judged_is_a_reason_and_what_says_nothing_of_the_prompt_ends_the_run(
    open_world, tmp_path
):
    report = await run(open_world, tmp_path / "a", [asked(*SAID)], ScriptedEngine("unreadable"))
    assert report.dropped == {"all_unreadable": 1}
    report = await run(open_world, tmp_path / "b", [asked("alike", "alike")])
    assert report.dropped == {"same_drafts": 1}

    def fails(prompt, params):
        raise EngineError("out of memory")

    with pytest.raises(PolicyFailed, match="out of memory"):
        await run(open_world, tmp_path / "c", prompts(2), engine_of(fails))


@pytest.mark.anyio
async def test_after_a_kill_it_goes_on_where_it_was(open_world, tmp_path):
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
        await run(open_world, tmp_path / "cut", prompts(8), engine_of(dies), at_once=1)
    file = tmp_path / "cut" / COMPARED
    assert len(file.read_text().splitlines()) == 4
    file.write_bytes(file.read_bytes()[:-20])
    assert not (tmp_path / "cut" / PAIRS).exists()
    written.clear()

    def lives(prompt, params):
        written.append(prompt)
        return by_seed(prompt, params)

    assert await run(open_world, tmp_path / "cut", prompts(8), engine_of(lives)) == whole
    assert len(written) == 5 * SETUP.n, "three prompts stood there whole"

    def compared(folder):
        return [(row["prompt"], row["chosen"], row["rejected"]) for row in rows(tmp_path / folder)]

    assert compared("cut") == compared("whole")


@pytest.mark.anyio
async def test_another_bar_chooses_anew_without_a_verdict(open_world, tmp_path):
    await run(open_world, tmp_path / "out", prompts(8), bar=PairThresholds(margin=0.5))
    many = rows(tmp_path / "out")
    with PairsFolder(tmp_path / "out", SETUP) as folder:
        report = write(prompts(8), folder, PairThresholds(margin=6))
    few = rows(tmp_path / "out")
    assert 0 < report.kept == len(few) < len(many)
    assert all(row in many for row in few)


@pytest.mark.anyio
async def test_a_folder_holds_one_setup_one_data_and_one_run_at_a_time(open_world, tmp_path):
    await run(open_world, tmp_path / "out", prompts(1))
    with pytest.raises(BadTask, match=r"n 3, now 5.*take a new folder"):
        await run(open_world, tmp_path / "out", prompts(1), setup=replace(SETUP, n=5))
    with pytest.raises(BadTask, match="0 had other texts"):
        await run(open_world, tmp_path / "out", [asked(*SAID, name="0")])
    with PairsFolder(tmp_path / "out", SETUP), pytest.raises(BadTask, match="another grm pairs"):
        await run(open_world, tmp_path / "out", prompts(1))


@pytest.mark.anyio
async def test_so_many_prompts_at_once(open_world, tmp_path):
    engine, running, most = engine_of(by_seed), 0, 0
    fine = ScriptedEngine.complete

    async def watched(prompt, params):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return await fine(engine, prompt, params)

    engine.complete = watched
    await run(open_world, tmp_path / "out", prompts(6), engine, setup=replace(SETUP, k=3), at_once=1)
    assert most == 3


@pytest.mark.anyio
async def test_its_verdicts_are_in_the_trail_under_their_route(open_world, tmp_path):
    async with open_world(engine_of(by_seed)) as (service, policy):
        with PairsFolder(tmp_path / "out", SETUP) as folder:
            await compare_all(prompts(1), folder, service, policy, 1)
            kept = service.trail.store.find(folder.done["0"].verdict)
    assert f'"route":"{ROUTE}"' in kept.body


def test_prompts_are_texts_or_messages_and_other_columns_are_passed_over(tmp_path):
    file = tmp_path / "prompts.jsonl"
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "b"}]
    lines = [{"prompt": "a", "source": "x"}, {"prompt": turns, "id": 7, "drafts": ["1", "2"]}]
    file.write_text("\n\n".join(map(json.dumps, lines)))
    assert read(file) == [
        PromptItem("1", (Message("user", "a"),)),
        PromptItem("7", (Message("system", "Be brief."), Message("user", "b")), ("1", "2")),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "line 1: row: Invalid JSON"),
        ('{"query": "a"}', "line 1: prompt: Field required"),
        ('{"prompt": "a"}\n{"prompt": []}', "line 2: prompt"),
        ('{"prompt": [{"role": "assistant", "content": "a"}]}', "must be the user's"),
        ('{"prompt": "a", "drafts": ["1"]}', "a single draft makes no pair"),
        ('{"prompt": "a", "id": "x"}\n{"prompt": "b", "id": "x"}', "line 2: the id 'x' has been there"),
        ("", "has no prompt"),
    ],
)
def test_what_is_no_prompt_is_refused_with_its_line(tmp_path, text, says):
    file = tmp_path / "prompts.jsonl"
    file.write_text(text)
    with pytest.raises(BadTask, match=says):
        read(file)


@pytest.mark.filterwarnings("ignore")  # what TRL, peft and transformers say of each other
@pytest.mark.skipif(
    not all(map(find_spec, ("trl", "peft", "datasets"))), reason="pip install 'grm-service[train]'"
)
def test_a_file_of_pairs_trains_a_step_of_dpo_in_trl(open_world, tmp_path):
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
