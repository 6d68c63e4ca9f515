"""The loop: drafts judged together, the best revised by its critiques, until that brings nothing more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from grm_service.audit.records import Record
from grm_service.errors import AllUnreadable, BadTask, DeadlineExceeded, GRMError
from grm_service.improving.budget import Budget, Price, least_draft
from grm_service.improving.gain import gain
from grm_service.improving.guards import flags
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
)
from grm_service.improving.policy import Policy
from grm_service.improving.revising import dealt, drafting, revising
from grm_service.judging.orders import sample_seed
from grm_service.profiles.profile import Profile
from grm_service.types import Completion, Params, Prompt, Requester, Sample, Task, Usage

ROUTE = "improve"
"""The route of its verdicts, in records."""
_REQUESTER = Requester(route=ROUTE)
_NOTHING = Usage()
OnProgress = Callable[[Draft | Round | SecondOpinion], None]
"""Is told every draft as it is written, every round's verdict, and the second opinion."""


async def improve(
    service: JudgeService,
    policy: Policy,
    task: ImproveTask,
    on_event: OnProgress = lambda event: None,
    requester: Requester = _REQUESTER,
) -> Improvement:
    """The lineage of an answer; never one whose best draft has a lower reward than the original.

    Raises BadTask and its kinds, EngineNotReady, AuditUnavailable before anything is generated, PolicyFailed
    and what the judge raises where the first drafts are not judged. What fails later ends the loop only.
    """
    run = _Run(service, policy, task, on_event, requester)
    await run.begin()
    stopped, failure = await run.go_on()
    return run.result(stopped, failure, await run.second_opinion())


@dataclass(frozen=True, slots=True)
class _Asked:
    """A draft to be written."""

    prompt: Prompt
    parent: int | None = None
    critiques: tuple[int, ...] = ()


class _NoRoom(Exception):
    """The budget's tokens do not do for another round."""


class _Run:
    """One improvement under way."""

    def __init__(
        self,
        service: JudgeService,
        policy: Policy,
        task: ImproveTask,
        on_event: OnProgress,
        requester: Requester,
    ) -> None:
        self._judging, self._policy, self._task = service, policy, task
        self._tell, self._requester = on_event, requester
        self._drafts: list[Draft] = []
        self._rounds: list[Round] = []
        self._cost = ImprovementCost()
        self._admit()
        self._second = self._price(task.second, 2)
        self._afford()
        self._budget = Budget(task.tokens, task.seconds, kept=self._second.least)

    def _admit(self) -> None:
        task = self._task
        if task.second == task.standard:
            raise BadTask(
                "the second opinion has the judge's own profile and principles: give it other ones "
                "(second_opinion)"
            )
        for standard in (task.standard, task.second):
            self._judging.check(self._judge_task(standard, (task.draft or "",)))

    def _afford(self) -> None:
        task = self._task
        judged = self._price(task.standard, task.n + (task.draft is not None))
        least = task.n * least_draft(task.max_tokens) + judged.least + self._second.least
        if task.tokens < least:
            raise BadTask(
                f"a budget of {task.tokens} tokens does not do for the first drafts, their verdict and a "
                f"second opinion: at least {least} are needed"
            )

    async def begin(self) -> None:
        """The first drafts and their verdict. Raises what goes wrong."""
        task = self._task
        if task.draft is not None:
            self._add(Draft(0, 0, task.draft, given=True))
        prompt = drafting(task.messages, self._policy.engine.control_tokens)
        shown, until = len(self._drafts) + task.n, self._budget.deadline
        await self._write(0, [_Asked(prompt)] * task.n, shown, until)
        await self._judge(0, self._different(), until)

    async def go_on(self) -> tuple[Stop, tuple[str, str] | None]:
        """Rounds of revisions until one of them is the last; why it was."""
        for number in range(1, self._task.rounds + 1):
            before, until = self._rounds[-1], self._until()
            try:
                new = await self._revise(number, until)
                if not new:
                    return "no_gain", None
                shown = sorted({0, before.best, *new})
                await self._judge(number, shown, until)
            except _NoRoom:
                return "tokens", None
            except DeadlineExceeded:
                return "seconds", None
            except GRMError as failed:
                self._spend(judge=_unread(failed))
                return "failed", (failed.code, str(failed))
            found = self._rounds[-1].gain
            if found is None or not found.clear:
                return "no_gain", None
        return "rounds", None

    async def second_opinion(self) -> SecondOpinion | None:
        """What the other standard says of the original and the best, where these are two."""
        best = self._rounds[-1].best
        if best == 0:
            return None
        second, self._budget.kept = self._task.second, 0
        try:
            record = await self._verdict(second, self._second, [0, best], self._budget.deadline)
        except GRMError as failed:
            self._spend(opinion=_unread(failed))
            opinion = SecondOpinion(second, error=failed.code)
        else:
            self._spend(opinion=record.verdict.usage)
            opinion = SecondOpinion(second, record, gain(record.verdict, 1, 0))
        self._tell(opinion)
        return opinion

    def result(
        self, stopped: Stop, failure: tuple[str, str] | None, opinion: SecondOpinion | None
    ) -> Improvement:
        last = self._rounds[-1]
        places = last.drafts
        found = gain(last.record.verdict, places.index(last.best), places.index(0)) if last.best else None
        whole = Improvement(
            policy=self._policy.engine.model,
            judge=last.record.verdict.model,
            drafts=tuple(self._drafts),
            rounds=tuple(self._rounds),
            original=0,
            best=last.best,
            gain=found,
            opinion=opinion,
            stopped=stopped,
            failure=failure,
            flags=(),
            cost=self._cost,
            seconds=self._budget.seconds,
        )
        return replace(whole, flags=flags(whole, self._policy.is_judge))

    async def _revise(self, number: int, until: float) -> list[int]:
        """Revisions of the best by what was said of it; those that say something new."""
        last, task = self._rounds[-1], self._task
        at = last.drafts.index(last.best)
        said = [s for s in last.record.verdict.samples if s.counted and at in s.order]
        hands = [dealt(said, i, task.revisions) for i in range(task.revisions)]
        asked = [_Asked(self._revision(at, hand), last.best, tuple(s.index for s in hand)) for hand in hands]
        before = len(self._drafts)
        await self._write(number, asked, len({0, last.best}) + task.revisions, until)
        return [draft.id for draft in self._drafts[before:] if draft.same_as is None]

    def _revision(self, at: int, hand: Sequence[Sample]) -> Prompt:
        last, tokens = self._rounds[-1], self._policy.engine.control_tokens
        return revising(self._task.messages, self._drafts[last.best].text, at, hand, tokens)

    async def _write(self, number: int, asked: Sequence[_Asked], shown: int, until: float) -> None:
        """Drafts, each told as it comes; `shown` are judged afterwards. Raises _NoRoom."""
        task, price = self._task, self._price(self._task.standard, shown)
        most = self._budget.each(len(asked), task.max_tokens, price)
        if most is None:
            raise _NoRoom
        first = len(self._drafts)

        def params(i: int) -> Params:
            return Params(most, task.temperature, seed=sample_seed(task.options.seed, first + i))

        def written(i: int, completion: Completion) -> None:
            self._spend(policy=completion.usage)

        wished = [(each.prompt, params(i)) for i, each in enumerate(asked)]
        completions = await self._policy.write(wished, until, self._requester, written)
        for each, completion in zip(asked, completions, strict=True):
            text = completion.text.strip()
            same = next((d.id for d in self._drafts if d.text == text and d.same_as is None), None)
            cut = completion.finish_reason == "length"
            draft = Draft(len(self._drafts), number, text, each.parent, each.critiques, cut=cut, same_as=same)
            self._add(draft)

    def _add(self, draft: Draft) -> None:
        self._drafts.append(draft)
        self._tell(draft)

    def _different(self) -> list[int]:
        return [draft.id for draft in self._drafts if draft.same_as is None]

    async def _judge(self, number: int, shown: Sequence[int], until: float) -> None:
        """The verdict on drafts together; the one with the highest reward stays, of equal ones the first."""
        standard = self._task.standard
        record = await self._verdict(standard, self._price(standard, len(shown)), shown, until)
        self._spend(judge=record.verdict.usage)
        rewards = record.verdict.vote.rewards
        at = rewards.index(max(rewards))
        found = None
        if self._rounds:
            found = gain(record.verdict, at, shown.index(self._rounds[-1].best))
        self._rounds.append(Round(number, tuple(shown), record, shown[at], found))
        self._tell(self._rounds[-1])

    async def _verdict(self, standard: Standard, price: Price, shown: Sequence[int], until: float) -> Record:
        left_s = until - self._budget.now
        if left_s <= 0:
            raise DeadlineExceeded("time ran out before the drafts were judged")
        judged = self._judge_task(standard, tuple(self._drafts[i].text for i in shown))
        tokens, asked_s = price.critique(self._budget.tokens), judged.options.timeout_s
        judged = judged.with_options(max_tokens=tokens, timeout_s=min(left_s, asked_s or left_s))
        return await self._judging.judge(judged, requester=self._requester)

    def _judge_task(self, standard: Standard, responses: tuple[str, ...]) -> Task:
        task = self._task
        options = replace(task.options, principles=standard.principles)
        return Task(task.messages, responses, standard.profile, options=options)

    def _price(self, standard: Standard, responses: int) -> Price:
        return Price.of(self._judge_task(standard, ("",) * responses), self._profile(standard))

    def _profile(self, standard: Standard) -> Profile:
        return self._judging.find_profile(standard.profile)

    def _until(self) -> float:
        """When the next round must be over: a second opinion takes about as long as the last verdict."""
        return self._budget.deadline - self._rounds[-1].record.verdict.judge_s

    def _spend(self, policy: Usage = _NOTHING, judge: Usage = _NOTHING, opinion: Usage = _NOTHING) -> None:
        self._budget.spend(policy + judge + opinion)
        cost = self._cost
        self._cost = ImprovementCost(cost.policy + policy, cost.judge + judge, cost.opinion + opinion)


def _unread(failed: GRMError) -> Usage:
    """What a verdict that came to nothing has cost."""
    samples = failed.samples if isinstance(failed, AllUnreadable) else ()
    return sum((sample.usage for sample in samples), Usage())
