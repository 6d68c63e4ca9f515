"""Preference pairs: two drafts whose rewards are far enough apart, with enough samples that agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from grm_service.callers import Requester
from grm_service.concurrency import for_each
from grm_service.errors import GRMError
from grm_service.failures import ITEM_FAILURES
from grm_service.improving.interface import JudgeService
from grm_service.improving.policy import DraftCut, Policy
from grm_service.improving.prompt_file import PromptItem
from grm_service.improving.revision_prompts import draft_prompt
from grm_service.improving.run_folder import PairsFolder, PairsSetup, PromptResult
from grm_service.judging.orders import sample_seed
from grm_service.row_values import comparable
from grm_service.types import Params, Task
from grm_service.version import __version__

ROUTE = "pairs"
"""The route in the records of its verdicts."""
SAME_DRAFTS = "same_drafts"
"""The reason to drop a prompt whose drafts are all the same."""


@dataclass(frozen=True, slots=True)
class PairThresholds:
    """The least difference of rewards in a pair, and the least share of samples that agree with it (0..1)."""

    margin: float = 1.0
    agreement: float = 0.75


@dataclass(frozen=True, slots=True)
class Pair:
    """Two draft indices; `agreement` is the share of samples that score `chosen` above `rejected`."""

    chosen: int
    rejected: int
    margin: float
    agreement: float


def select_pair(result: PromptResult, thresholds: PairThresholds) -> Pair | str:
    """Return the best and the worst draft as a pair, or the reason to drop the prompt.

    Of equally good drafts the shorter is chosen. The reasons are an error's code, 'same_drafts',
    'cut_in_thinking' (a draft has no answer), 'small_margin', 'low_agreement', and 'cut' (the best draft
    reached its token limit, and a policy trained on it would learn to break off).
    """
    if result.error is not None:
        return result.error
    drafts = range(len(result.drafts))
    best = max(drafts, key=lambda i: (result.rewards[i], -len(result.drafts[i])))
    worst = min(drafts, key=lambda i: result.rewards[i])
    agrees = [
        above > below
        for row in result.scores
        if (above := row[best]) is not None and (below := row[worst]) is not None
    ]
    margin = result.rewards[best] - result.rewards[worst]
    pair = Pair(best, worst, margin, fmean(agrees) if agrees else 0.0)
    if pair.margin <= 0 or pair.margin < thresholds.margin:
        return "small_margin"
    if pair.agreement < thresholds.agreement:
        return "low_agreement"
    return "cut" if best in result.cut else pair


def to_row(prompt: PromptItem, result: PromptResult, pair: Pair) -> dict[str, Any]:
    """Return a line of the pairs file: TRL's conversational columns, and the provenance."""

    def answer(i: int) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": result.drafts[i]}]

    return {
        "prompt": [{"role": turn.role, "content": turn.content} for turn in prompt.messages],
        "chosen": answer(pair.chosen),
        "rejected": answer(pair.rejected),
        "provenance": {
            "id": prompt.id,
            "policy": result.policy,
            "judge": result.judge,
            "profile": result.profile,
            "fingerprint": result.fingerprint,
            "verdict": result.verdict,
            "drafts": len(result.drafts),
            "samples": len(result.scores),
            "rewards": [result.rewards[pair.chosen], result.rewards[pair.rejected]],
            "margin": pair.margin,
            "agreement": pair.agreement,
            "version": __version__,
        },
    }


@dataclass(frozen=True, slots=True)
class PairsReport:
    """The numbers of prompts, pairs, and prompts `dropped` by reason.

    `longer` counts the pairs whose chosen draft is the longer one; `margin` is the mean over all pairs, None
    if there are none.
    """

    prompts: int
    pairs: int
    dropped: dict[str, int]
    longer: int
    margin: float | None


def write_pairs(
    prompts: Sequence[PromptItem], folder: PairsFolder, thresholds: PairThresholds
) -> PairsReport:
    """Select pairs from the finished prompts and write them; other thresholds need no new verdicts."""
    dropped, rows = Counter[str](), list[dict[str, Any]]()
    longer, margins = 0, list[float]()
    for prompt in prompts:
        result = folder.done[prompt.id]
        pair = select_pair(result, thresholds)
        if isinstance(pair, str):
            dropped[pair] += 1
            continue
        rows.append(to_row(prompt, result, pair))
        longer += len(result.drafts[pair.chosen]) > len(result.drafts[pair.rejected])
        margins.append(pair.margin)
    folder.write_pairs(rows)
    mean = fmean(margins) if margins else None
    return PairsReport(len(prompts), len(rows), dict(dropped.most_common()), longer, mean)


async def judge_prompts(
    prompts: Sequence[PromptItem],
    folder: PairsFolder,
    service: JudgeService,
    policy: Policy,
    concurrency: int,
    on_finished: Callable[[], None] = lambda: None,
) -> None:
    """Write drafts for prompts without any, judge them, and store the results; skip finished prompts.

    A failure that is not due to a single prompt is raised; results up to then are stored.
    """

    async def process(prompt: PromptItem) -> None:
        folder.add(await _process(prompt, folder.setup, service, policy))
        on_finished()

    await for_each(folder.remaining(prompts), process, concurrency)


async def _process(
    prompt: PromptItem, setup: PairsSetup, service: JudgeService, policy: Policy
) -> PromptResult:
    requester, writer = Requester(route=ROUTE, priority="eval"), None
    drafts, cut = _distinct(prompt.drafts), tuple[int, ...]()
    try:
        if not prompt.drafts:
            writer = policy.engine.model
            drafts, cut = await _write_drafts(prompt, setup, policy, requester)
        if len(drafts) < 2:
            return PromptResult(prompt.id, prompt.digest, drafts, cut, writer, error=SAME_DRAFTS)
        options = setup.judge_options(prompt.seed(setup.seed))
        record = await service.judge(Task(prompt.messages, drafts, options=options), requester=requester)
    except GRMError as failed:
        if failed.code not in ITEM_FAILURES and not isinstance(failed, DraftCut):
            raise
        error = failed.label if isinstance(failed, DraftCut) else failed.code
        return PromptResult(prompt.id, prompt.digest, drafts, cut, writer, error=error)
    verdict = record.verdict
    return PromptResult(
        prompt.id,
        prompt.digest,
        drafts,
        cut,
        writer,
        rewards=verdict.vote.rewards,
        scores=tuple(s.scores for s in verdict.samples if s.counted and s.scores is not None),
        verdict=record.id,
        judge=verdict.model,
        profile=verdict.profile,
        fingerprint=verdict.fingerprint,
    )


def _distinct(drafts: Sequence[str]) -> tuple[str, ...]:
    """Return the first draft of each text, apart from spaces around it."""
    return tuple({comparable(draft): draft for draft in reversed(drafts)}.values())[::-1]


async def _write_drafts(
    prompt: PromptItem, setup: PairsSetup, policy: Policy, requester: Requester
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the distinct drafts, and the indices of those that reached their token limit."""
    await policy.start()
    messages, seed = draft_prompt(prompt.messages, policy.engine.control_tokens), prompt.seed(setup.seed)
    requests = [
        (messages, Params(setup.max_tokens, setup.temperature, seed=sample_seed(seed, i)))
        for i in range(setup.n)
    ]
    is_cut = dict[str, bool]()
    for completion in await policy.write(requests, requester=requester):
        is_cut.setdefault(completion.text.strip(), completion.finish_reason == "length")
    return tuple(is_cut), tuple(i for i, cut in enumerate(is_cut.values()) if cut)
