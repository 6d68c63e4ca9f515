"""Preference pairs: drafts that a verdict puts far enough apart, and with enough samples behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from grm_service.concurrency import for_each
from grm_service.errors import (
    AllUnreadable,
    GRMError,
    PrinciplesUnreadable,
    PromptTooLong,
    ResponseUnread,
    TextTooLong,
)
from grm_service.improving.interface import JudgeService
from grm_service.improving.policy import Policy
from grm_service.improving.prompts import PromptItem
from grm_service.improving.revising import drafting
from grm_service.improving.run_folder import PairsFolder, PairsSetup, PromptResult
from grm_service.judging.orders import sample_seed
from grm_service.types import JudgeOptions, Params, PrincipleSpec, Requester, Task
from grm_service.version import __version__

ROUTE = "pairs"
"""The route of its verdicts, in records."""
SAME_DRAFTS = "same_drafts"
"""The reason why drafts that all say the same make no pair."""
_FINDINGS = {
    failed.code
    for failed in (AllUnreadable, ResponseUnread, PrinciplesUnreadable, PromptTooLong, TextTooLong)
}
"""Why a prompt can have no verdict. Anything else says nothing about the prompt: it ends the run."""


@dataclass(frozen=True, slots=True)
class PairThresholds:
    """What a pair must reach: how far the rewards lie apart, and the share of samples that see it so."""

    margin: float = 1.0
    agreement: float = 0.75


@dataclass(frozen=True, slots=True)
class Pair:
    """Indices of two drafts. `agreement`: the share of samples that score the chosen one above the other."""

    chosen: int
    rejected: int
    margin: float
    agreement: float


def choose(compared: PromptResult, bar: PairThresholds) -> Pair | str:
    """The best draft over the worst one, or the reason why this makes no pair.

    Of equal ones the shorter is the best. The reasons: an error's code, 'same_drafts' (all say the same),
    'small_margin', 'low_agreement', 'cut' (the best one ended at its token limit: from it one learns to
    break off).
    """
    if compared.error is not None:
        return compared.error
    every = range(len(compared.drafts))
    best = max(every, key=lambda i: (compared.rewards[i], -len(compared.drafts[i])))
    worst = min(every, key=lambda i: compared.rewards[i])
    both = [
        above > below
        for row in compared.scores
        if (above := row[best]) is not None and (below := row[worst]) is not None
    ]
    pair = Pair(best, worst, compared.rewards[best] - compared.rewards[worst], fmean(both) if both else 0.0)
    if pair.margin <= 0 or pair.margin < bar.margin:
        return "small_margin"
    if pair.agreement < bar.agreement:
        return "low_agreement"
    return "cut" if best in compared.cut else pair


def row(asked: PromptItem, compared: PromptResult, pair: Pair) -> dict[str, Any]:
    """A line of the pairs' file, in the columns of TRL (conversational), and where it came from."""

    def answer(i: int) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": compared.drafts[i]}]

    return {
        "prompt": [{"role": turn.role, "content": turn.content} for turn in asked.messages],
        "chosen": answer(pair.chosen),
        "rejected": answer(pair.rejected),
        "provenance": {
            "id": asked.id,
            "policy": compared.policy,
            "judge": compared.judge,
            "profile": compared.profile,
            "fingerprint": compared.fingerprint,
            "verdict": compared.verdict,
            "drafts": len(compared.drafts),
            "samples": len(compared.scores),
            "rewards": [compared.rewards[pair.chosen], compared.rewards[pair.rejected]],
            "margin": pair.margin,
            "agreement": pair.agreement,
            "version": __version__,
        },
    }


@dataclass(frozen=True, slots=True)
class PairsReport:
    """What became of the prompts: `dropped` by reason. `longer`: pairs whose chosen draft is the longer."""

    prompts: int
    kept: int
    dropped: dict[str, int]
    longer: int
    margin: float | None
    """Mean of the kept ones."""


def write(asked: Sequence[PromptItem], folder: PairsFolder, bar: PairThresholds) -> PairsReport:
    """Chooses among what the folder has, and writes its pairs; another bar needs no new verdicts."""
    dropped, rows = Counter[str](), list[dict[str, Any]]()
    longer, margins = 0, list[float]()
    for each in asked:
        compared = folder.done[each.id]
        pair = choose(compared, bar)
        if isinstance(pair, str):
            dropped[pair] += 1
            continue
        rows.append(row(each, compared, pair))
        longer += len(compared.drafts[pair.chosen]) > len(compared.drafts[pair.rejected])
        margins.append(pair.margin)
    folder.write(rows)
    mean = fmean(margins) if margins else None
    return PairsReport(len(asked), len(rows), dict(dropped.most_common()), longer, mean)


async def compare_all(
    asked: Sequence[PromptItem],
    folder: PairsFolder,
    service: JudgeService,
    policy: Policy,
    at_once: int,
    on_compared: Callable[[], None] = lambda: None,
) -> None:
    """Has drafts written where there are none, and judged; what the folder has already is not done again.

    A failure that says nothing about a prompt is raised; what was finished before is kept.
    """

    async def compare(item: PromptItem) -> None:
        folder.add(await _compared(item, folder.setup, service, policy))
        on_compared()

    await for_each(folder.left(asked), compare, at_once)


async def _compared(
    asked: PromptItem, setup: PairsSetup, service: JudgeService, policy: Policy
) -> PromptResult:
    requester, writer = Requester(route=ROUTE, priority="eval"), None
    drafts, cut = tuple(dict.fromkeys(asked.drafts)), tuple[int, ...]()
    try:
        if not asked.drafts:
            writer = policy.engine.model
            drafts, cut = await _written(asked, setup, policy, requester)
        if len(drafts) < 2:
            return PromptResult(asked.id, asked.digest, drafts, cut, writer, error=SAME_DRAFTS)
        record = await service.judge(_task(asked, drafts, setup), requester=requester)
    except GRMError as failed:
        if failed.code not in _FINDINGS:
            raise
        return PromptResult(asked.id, asked.digest, drafts, cut, writer, error=failed.code)
    verdict = record.verdict
    return PromptResult(
        asked.id,
        asked.digest,
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


async def _written(
    asked: PromptItem, setup: PairsSetup, policy: Policy, requester: Requester
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Different drafts, and which of them ended at their token limit."""
    await policy.start()
    prompt, seed = drafting(asked.messages, policy.engine.control_tokens), asked.seed(setup.seed)
    wished = [
        (prompt, Params(setup.max_tokens, setup.temperature, seed=sample_seed(seed, i)))
        for i in range(setup.n)
    ]
    found = dict[str, bool]()
    for completion in await policy.write(wished, requester=requester):
        found.setdefault(completion.text.strip(), completion.finish_reason == "length")
    return tuple(found), tuple(i for i, cut in enumerate(found.values()) if cut)


def _task(asked: PromptItem, drafts: tuple[str, ...], setup: PairsSetup) -> Task:
    return Task(
        asked.messages,
        drafts,
        options=JudgeOptions(
            principles=PrincipleSpec(setup.principles, setup.principle_set),
            k=setup.k,
            seed=asked.seed(setup.seed),
        ),
    )
