"""The improvement loop: judge drafts together and revise the best one until a round brings no clear gain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from grm_service.audit.records import Record
from grm_service.callers import Requester
from grm_service.errors import AllUnreadable, BadTask, DeadlineExceeded, GRMError
from grm_service.improving.budget import Budget, VerdictBound, min_draft_tokens
from grm_service.improving.gain import paired_gain
from grm_service.improving.interface import JudgeService
from grm_service.improving.lineage import (
    Draft,
    Improvement,
    ImprovementCost,
    ImproveTask,
    Round,
    SecondOpinion,
    Standard,
    Stop,
    find_flags,
)
from grm_service.improving.policy import Policy
from grm_service.improving.revision_prompts import deal_critiques, draft_prompt, revision_prompt
from grm_service.judging.orders import sample_seed
from grm_service.types import Completion, Params, Prompt, Sample, Task, Usage

ROUTE = "improve"
"""The route in the records of its verdicts."""
_REQUESTER = Requester(route=ROUTE)
OnEvent = Callable[[Draft | Round | SecondOpinion], None]
"""Called with every draft, every round once it is judged, and the second opinion."""


async def improve(
    service: JudgeService,
    policy: Policy,
    task: ImproveTask,
    on_event: OnEvent = lambda event: None,
    requester: Requester = _REQUESTER,
) -> Improvement:
    """Return the lineage of an answer; its best draft never has a lower reward than the original.

    Before anything is generated, raises BadTask and its subclasses, EngineNotReady, AuditUnavailable. If the
    first drafts cannot be written or judged, raises PolicyFailed or what the judge raises. Later failures end
    the loop and are reported in the result.
    """
    with service.admit(requester) as admitted:
        run = _ImprovementRun(service, policy, task, on_event, admitted)
        await run.judge_first_drafts()
        stopped, failure = await run.revise_until_done()
        return run.result(stopped, failure, await run.second_opinion())


@dataclass(frozen=True, slots=True)
class _DraftRequest:
    """A draft to be written."""

    prompt: Prompt
    parent: int | None = None
    critiques: tuple[int, ...] = ()


class _BudgetExhausted(Exception):
    """Too few tokens remain for another round."""


class _ImprovementRun:
    """The state of one improvement."""

    def __init__(
        self,
        service: JudgeService,
        policy: Policy,
        task: ImproveTask,
        on_event: OnEvent,
        requester: Requester,
    ) -> None:
        self._service, self._policy, self._task = service, policy, task
        self._on_event, self._requester = on_event, requester
        self._drafts: list[Draft] = []
        self._rounds: list[Round] = []
        self._cost = ImprovementCost()
        self._check_standards()
        self._opinion_bound = self._bound(task.second, 2)
        self._check_tokens()
        self._budget = Budget(task.tokens, task.seconds, reserved=self._opinion_bound.minimum)

    def _check_standards(self) -> None:
        task = self._task
        if task.second == task.standard:
            raise BadTask(
                "the second opinion has the same profile and principles as the judge: choose others for it "
                "(second_opinion)"
            )
        for standard in (task.standard, task.second):
            drafts = (task.draft or "", *[""] * (task.n - (task.draft is None)))
            self._service.check(self._judge_task(standard, drafts))

    def _check_tokens(self) -> None:
        task = self._task
        first = self._bound(task.standard, task.n + (task.draft is not None))
        minimum = task.n * min_draft_tokens(task.max_tokens) + first.minimum + self._opinion_bound.minimum
        if task.tokens < minimum:
            raise BadTask(
                f"a budget of {task.tokens} tokens is too small for the first drafts, their verdict and a "
                f"second opinion: at least {minimum} are needed"
            )

    async def judge_first_drafts(self) -> None:
        """Sample the first drafts and judge them; all failures are raised."""
        task = self._task
        if task.draft is not None:
            self._add(Draft(0, 0, task.draft, given=True))
        prompt = draft_prompt(task.messages, self._policy.engine.control_tokens)
        candidates, deadline = len(self._drafts) + task.n, self._budget.deadline
        await self._write(0, [_DraftRequest(prompt)] * task.n, candidates, deadline)
        await self._judge(0, [draft.id for draft in self._drafts if draft.same_as is None], deadline)

    async def revise_until_done(self) -> tuple[Stop, tuple[str, str] | None]:
        """Run rounds of revisions; return why they ended, with the failure's code and message if any."""
        for number in range(1, self._task.rounds + 1):
            best, deadline = self._rounds[-1].best, self._round_deadline()
            try:
                new = await self._revise(number, deadline)
                if not new:
                    return "no_gain", None
                await self._judge(number, sorted({0, best, *new}), deadline)
            except _BudgetExhausted:
                return "tokens", None
            except DeadlineExceeded:
                return "seconds", None
            except GRMError as failed:
                self._spend(self._budget.tokens, judge=_usage_of(failed))
                return "failed", (failed.code, str(failed))
            gain = self._rounds[-1].gain
            if gain is None or not gain.clear:
                return "no_gain", None
        return "rounds", None

    async def second_opinion(self) -> SecondOpinion | None:
        """Judge the original and the best by the other standard; return None if they are the same draft."""
        best = self._rounds[-1].best
        if best == 0:
            return None
        second, self._budget.reserved = self._task.second, 0
        try:
            record = await self._verdict(second, self._opinion_bound, [0, best], self._budget.deadline)
        except GRMError as failed:
            self._spend(self._budget.tokens, opinion=_usage_of(failed))
            opinion = SecondOpinion(second, error=failed.code)
        else:
            self._spend(self._budget.tokens, opinion=record.verdict.usage)
            opinion = SecondOpinion(second, record, paired_gain(record.verdict, 1, 0))
        self._on_event(opinion)
        return opinion

    def result(
        self, stopped: Stop, failure: tuple[str, str] | None, opinion: SecondOpinion | None
    ) -> Improvement:
        """Return the lineage with its gain, flags and cost."""
        last, gain = self._rounds[-1], None
        if last.best != 0:
            gain = paired_gain(last.record.verdict, last.drafts.index(last.best), last.drafts.index(0))
        improvement = Improvement(
            policy=self._policy.engine.model,
            judge=last.record.verdict.model,
            drafts=tuple(self._drafts),
            rounds=tuple(self._rounds),
            original=0,
            best=last.best,
            gain=gain,
            opinion=opinion,
            stopped=stopped,
            failure=failure,
            flags=(),
            cost=self._cost,
            seconds=self._budget.elapsed,
        )
        return replace(improvement, flags=find_flags(improvement, self._policy.is_judge))

    async def _revise(self, number: int, deadline: float) -> list[int]:
        """Write revisions of the best draft; return the ids of those with a new text."""
        last, revisions = self._rounds[-1], self._task.revisions
        response = last.drafts.index(last.best)
        critiques = [s for s in last.record.verdict.samples if s.counted and response in s.order]
        requests = [
            self._revision_request(response, deal_critiques(critiques, i, revisions))
            for i in range(revisions)
        ]
        before = len(self._drafts)
        await self._write(number, requests, len({0, last.best}) + revisions, deadline)
        return [draft.id for draft in self._drafts[before:] if draft.same_as is None]

    def _revision_request(self, response: int, critiques: Sequence[Sample]) -> _DraftRequest:
        best, control_tokens = self._rounds[-1].best, self._policy.engine.control_tokens
        text = self._drafts[best].text
        prompt = revision_prompt(self._task.messages, text, response, critiques, control_tokens)
        return _DraftRequest(prompt, best, tuple(sample.index for sample in critiques))

    async def _write(
        self, number: int, requests: Sequence[_DraftRequest], candidates: int, deadline: float
    ) -> None:
        """Write and add drafts, leaving room for a verdict on `candidates`. Raises _BudgetExhausted."""
        task, first = self._task, len(self._drafts)
        limit = self._budget.draft_limit(
            len(requests), task.max_tokens, self._bound(task.standard, candidates)
        )
        if limit is None:
            raise _BudgetExhausted

        def params(i: int) -> Params:
            return Params(limit, task.temperature, seed=sample_seed(task.options.seed, first + i))

        def on_completion(i: int, completion: Completion) -> None:
            self._spend(limit, policy=completion.usage)

        completions = await self._policy.write(
            [(request.prompt, params(i)) for i, request in enumerate(requests)],
            deadline,
            self._requester,
            on_completion,
        )
        for request, completion in zip(requests, completions, strict=True):
            self._add(self._to_draft(number, request, completion))

    def _to_draft(self, number: int, request: _DraftRequest, completion: Completion) -> Draft:
        text = completion.text.strip()
        return Draft(
            id=len(self._drafts),
            round=number,
            text=text,
            parent=request.parent,
            critiques=request.critiques,
            cut=completion.finish_reason == "length",
            same_as=next((d.id for d in self._drafts if d.text == text and d.same_as is None), None),
        )

    def _add(self, draft: Draft) -> None:
        self._drafts.append(draft)
        self._on_event(draft)

    async def _judge(self, number: int, candidates: Sequence[int], deadline: float) -> None:
        """Judge drafts together and add the round; the first draft with the highest reward is the best."""
        standard, gain = self._task.standard, None
        bound = self._bound(standard, len(candidates))
        record = await self._verdict(standard, bound, candidates, deadline)
        self._spend(bound.most(self._budget.tokens), judge=record.verdict.usage)
        rewards = record.verdict.vote.rewards
        best = rewards.index(max(rewards))
        if self._rounds:
            gain = paired_gain(record.verdict, best, candidates.index(self._rounds[-1].best))
        self._rounds.append(Round(number, tuple(candidates), record, candidates[best], gain))
        self._on_event(self._rounds[-1])

    async def _verdict(
        self, standard: Standard, bound: VerdictBound, candidates: Sequence[int], deadline: float
    ) -> Record:
        """Return the verdict on drafts, within the remaining tokens and time."""
        remaining_s = deadline - self._budget.now
        if remaining_s <= 0:
            raise DeadlineExceeded("time ran out before the drafts were judged")
        task = self._judge_task(standard, tuple(self._drafts[i].text for i in candidates))
        timeout_s = min(remaining_s, task.options.timeout_s or remaining_s)
        task = task.with_options(max_tokens=bound.critique_limit(self._budget.tokens), timeout_s=timeout_s)
        return await self._service.judge(task, requester=self._requester)

    def _judge_task(self, standard: Standard, responses: tuple[str, ...]) -> Task:
        options = replace(self._task.options, principles=standard.principles)
        return Task(self._task.messages, responses, standard.profile, options=options)

    def _bound(self, standard: Standard, responses: int) -> VerdictBound:
        profile = self._service.find_profile(standard.profile)
        return VerdictBound.of(self._judge_task(standard, ("",) * responses), profile)

    def _round_deadline(self) -> float:
        """Return the end of the next round, so that a second opinion still has the time of one verdict."""
        return self._budget.deadline - self._rounds[-1].record.verdict.judge_s

    def _spend(
        self, at_most: int, policy: Usage = Usage(), judge: Usage = Usage(), opinion: Usage = Usage()
    ) -> None:
        self._budget.spend(policy + judge + opinion, at_most)
        cost = self._cost
        self._cost = ImprovementCost(cost.policy + policy, cost.judge + judge, cost.opinion + opinion)


def _usage_of(failed: GRMError) -> Usage:
    """Return the tokens of a failed verdict, as far as they are known."""
    samples = failed.samples if isinstance(failed, AllUnreadable) else ()
    return sum((sample.usage for sample in samples), Usage())
