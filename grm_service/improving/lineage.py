"""What an improvement is asked for, and what becomes of it: drafts, rounds, a second opinion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from grm_service.audit.records import Record
from grm_service.improving.gain import Gain
from grm_service.types import JudgeOptions, Message, PrincipleSpec, Usage

_OWN, _NOTHING = PrincipleSpec(), Usage()
Stop = Literal["rounds", "no_gain", "tokens", "seconds", "failed"]
Flag = Literal["same_model", "gain_not_shared", "gain_unclear", "grew_longer"]


@dataclass(frozen=True, slots=True)
class Standard:
    """A profile (None: the server's default) and the principles to judge by."""

    profile: str | None = None
    principles: PrincipleSpec = _OWN


HELPFULNESS = Standard(principles=PrincipleSpec("fixed", "helpfulness"))


@dataclass(frozen=True, slots=True)
class ImproveTask:
    """One query whose answer is to be improved.

    `messages` end with the user's turn; `draft` is an answer to begin with. `n` drafts are sampled first,
    `revisions` in each of at most `rounds` rounds, with the policy's `temperature` and at most `max_tokens`
    tokens each. `options` are the judge's, for both verdicts. `tokens` bounds what policy, judge and second
    opinion generate together, `seconds` how long it takes.
    """

    messages: tuple[Message, ...]
    draft: str | None = None
    n: int = 4
    revisions: int = 2
    rounds: int = 2
    profile: str | None = None
    options: JudgeOptions = JudgeOptions()
    second: Standard = HELPFULNESS
    temperature: float = 0.8
    max_tokens: int = 512
    tokens: int = 32_768
    seconds: float = 300.0

    @property
    def standard(self) -> Standard:
        """The profile and principles that choose among the drafts."""
        return Standard(self.profile, self.options.principles)


@dataclass(frozen=True, slots=True)
class Draft:
    """One answer; `id` is its place in the lineage.

    `parent` is the draft that it revises, by what `critiques` (indices of samples) said in the verdict on it;
    None for what was sampled from the conversation alone, or `given` by the caller. `cut`: it ended at its
    token limit. `same_as`: the draft that said the same before; then this one is not judged.
    """

    id: int
    round: int
    text: str
    parent: int | None = None
    critiques: tuple[int, ...] = ()
    given: bool = False
    cut: bool = False
    same_as: int | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """One verdict: `drafts` were judged together, in this order, and `best` stayed.

    `gain` is that of `best` over the one that was best before, None in the first round.
    """

    number: int
    drafts: tuple[int, ...]
    record: Record
    best: int
    gain: Gain | None


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """What another standard says of the original and the best, in this order; `error`: why nothing."""

    standard: Standard
    record: Record | None = None
    gain: Gain | None = None
    error: str | None = None

    @property
    def shared(self) -> bool | None:
        """Whether it sees a gain outside its own votes' spread; None where it says nothing."""
        return None if self.gain is None else self.gain.clear


@dataclass(frozen=True, slots=True)
class ImprovementCost:
    """Tokens by who generated them, as far as they were told of (what fails on the way is not)."""

    policy: Usage = _NOTHING
    judge: Usage = _NOTHING
    opinion: Usage = _NOTHING

    @property
    def generated(self) -> int:
        """What counts for the budget."""
        return sum(usage.completion_tokens for usage in (self.policy, self.judge, self.opinion))


@dataclass(frozen=True, slots=True)
class Improvement:
    """The whole lineage. `gain` is that of `best` over `original` in the last verdict, which is on both.

    `opinion` is None where the original stayed the best: there is no gain to share. `failure` is what ended
    it with "failed": its code and what it said.
    """

    policy: str
    judge: str
    drafts: tuple[Draft, ...]
    rounds: tuple[Round, ...]
    original: int
    best: int
    gain: Gain | None
    opinion: SecondOpinion | None
    stopped: Stop
    failure: tuple[str, str] | None
    flags: tuple[Flag, ...]
    cost: ImprovementCost
    seconds: float

    @property
    def text(self) -> str:
        """The best draft's."""
        return self.drafts[self.best].text

    @property
    def growth(self) -> float | None:
        """Characters of the best for each of the original; None where that is empty."""
        before = len(self.drafts[self.original].text)
        return len(self.text) / before if before else None
