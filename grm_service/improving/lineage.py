"""The values of an improvement: its task, drafts, rounds, second opinion and flags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from grm_service.audit.records import Record
from grm_service.improving.gain import Gain
from grm_service.types import JudgeOptions, Message, PrincipleSpec, Usage

_GROWTH_LIMIT = 1.5
Stop = Literal["rounds", "no_gain", "tokens", "seconds", "failed"]
Flag = Literal["same_model", "gain_not_shared", "gain_unclear", "grew_longer"]


@dataclass(frozen=True, slots=True)
class Standard:
    """A profile (None: the server's default) and the principles to judge by."""

    profile: str | None = None
    principles: PrincipleSpec = PrincipleSpec()


HELPFULNESS = Standard(principles=PrincipleSpec("fixed", "helpfulness"))


@dataclass(frozen=True, slots=True)
class ImproveTask:
    """A query and the settings for improving the answer to it.

    `messages` end with the user's turn; `draft` is an answer to start from. `n` drafts are sampled first,
    then `revisions` in each of at most `rounds` rounds, with the policy's `temperature` and at most
    `max_tokens` tokens each. `options` are the judge's and apply to the second opinion too, except for its
    principles. `tokens` limits what policy, judge and second opinion generate together, `seconds` the time.
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
        """The profile and principles that select the best draft."""
        return Standard(self.profile, self.options.principles)


@dataclass(frozen=True, slots=True)
class Draft:
    """One answer; `id` is its index in the lineage.

    `parent` is the draft that it revises, based on `critiques` (sample indices) of the verdict on the parent;
    None if it was sampled from the conversation alone, or `given` by the caller. `cut` means that it reached
    its token limit. `same_as` is an earlier draft with the same text; this one is then not judged.
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
    """One verdict on `drafts`, judged together in this order; `best` is the one with the highest reward.

    `gain` is the gain of `best` over the previous best, None in the first round.
    """

    number: int
    drafts: tuple[int, ...]
    record: Record
    best: int
    gain: Gain | None


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """The verdict by another standard on the original and the best, in this order.

    `error` is the code of the failure if there is no verdict.
    """

    standard: Standard
    record: Record | None = None
    gain: Gain | None = None
    error: str | None = None

    @property
    def shared(self) -> bool | None:
        """True if it finds a clear gain too; None if it has no verdict, or no sample scored both."""
        return None if self.gain is None else self.gain.clear


@dataclass(frozen=True, slots=True)
class ImprovementCost:
    """The tokens of policy, judge and second opinion.

    Tokens of completions that failed or were cancelled are unknown and missing here.
    """

    policy: Usage = Usage()
    judge: Usage = Usage()
    opinion: Usage = Usage()

    @property
    def generated(self) -> int | None:
        """The generated tokens, which count towards the budget; None if a server does not state them."""
        return (self.policy + self.judge + self.opinion).completion_tokens


@dataclass(frozen=True, slots=True)
class Improvement:
    """The whole lineage. `gain` is the gain of `best` over `original` in the last verdict, which has both.

    `gain` and `opinion` are None if the original is still the best. `failure` is the code and message of the
    error that ended the loop, if `stopped` is "failed".
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
        """The text of the best draft."""
        return self.drafts[self.best].text

    @property
    def growth(self) -> float | None:
        """Characters of the best divided by those of the original; None if the original is empty."""
        before = len(self.drafts[self.original].text)
        return len(self.text) / before if before else None


def find_flags(improvement: Improvement, same_model: bool) -> tuple[Flag, ...]:
    """Return the reasons to distrust a gain; `same_model` if policy and judge are one model.

    A second opinion without a verdict counts as one that does not share the gain.
    """
    better = improvement.best != improvement.original
    gain, opinion, growth = improvement.gain, improvement.opinion, improvement.growth
    holds: dict[Flag, bool] = {
        "same_model": same_model,
        "gain_not_shared": better and not (opinion is not None and opinion.shared),
        "gain_unclear": better and not (gain is not None and gain.clear),
        "grew_longer": better and (growth is None or growth > _GROWTH_LIMIT),
    }
    return tuple(flag for flag, value in holds.items() if value)
