r"""Baselines: the same model judges without principles, to compare the method and not the model.

`pairwise` explains and picks the best response, all in one prompt, in one order drawn once per item.
`swapped` does the same in balanced orders, so that both responses of a pair come first equally often.
`absolute` scores every response alone. `logprob` generates nothing: it reads the probabilities of the
letters, once per order. Answers are in `\boxed{}`, which responses cannot forge (judging/neutralising.py); a
missing answer is requested again under a constraint, as in the service. Thinking is never read; an answer cut
in it is completed after the thinking, or asked for again with the thinking off or with more room for it.
"""

from __future__ import annotations

import hashlib
import math
import string
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from grm_service.concurrency import gather
from grm_service.engines.base import Engine
from grm_service.errors import AllUnreadable, BadTask, GRMError
from grm_service.evaluation.dataset import Item
from grm_service.evaluation.judges import JudgeItem, failed_result, item_result
from grm_service.evaluation.run_folder import EvalSetup, ItemResult, JudgeKind, SampleResult
from grm_service.judging import parse
from grm_service.judging.completion import complete, to_get_an_answer
from grm_service.judging.plan import Plan, plan
from grm_service.judging.prompt import join_responses, task_texts
from grm_service.judging.sampler import CUT_IN_THINKING
from grm_service.judging.soft_scores import ALTERNATIVES
from grm_service.profiles.catalog import fingerprint
from grm_service.profiles.profile import Profile, Scale, fill
from grm_service.types import Completion, JudgeOptions, Message, Params, Prompt, Task, Usage

LETTERS = tuple(string.ascii_uppercase)
TOO_MANY = "too_many_responses"
"""The error of an item with more responses than there are letters."""
_PICK = r"""Which of the {{n}} responses to the last turn of the conversation is the best?

#### Conversation Context ####
{{conversation}}

#### Responses ####
{{responses}}

#### Output Format Requirements ####
"""
_EXPLAINED = (
    "Say in a few sentences what each response does well and badly. Then write which one is the best: "
)
_ALONE = r"""How good is the response to the last turn of the conversation?

#### Conversation Context ####
{{conversation}}

#### Response ####
{{responses}}

#### Output Format Requirements ####
Say in a few sentences what it does well and badly. Then write its score, one whole number from {{min}}
(useless) to {{max}} (perfect): \boxed{x}"""
TEMPLATES: Mapping[JudgeKind, str] = {
    "pairwise": _PICK + _EXPLAINED + r"\boxed{Response x}",
    "swapped": _PICK + _EXPLAINED + r"\boxed{Response x}",
    "absolute": _ALONE,
    "logprob": _PICK + r"Write only which one is the best: \boxed{Response x}",
}
"""The prompts; turns and responses are formatted by the profile."""
# The prompt labels responses "Response A", so the model expects a letter after this word.
_NAME = "Response"
_BEST, _SCORE = f"\\boxed{{{_NAME}", "\\boxed{"
_CLOSING_TOKENS = 8
_NO_SUCH_CHOICE = "no_such_choice"
_GRM_ONLY = ("principles", "score", "k_meta", "stop", "timeout_s")
"""Judge options that baselines do not support."""
MAX_LOGPROB_K = 2
"""`logprob` is deterministic, so it has one sample per order."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """One of the choices, or None if the answer could not be read.

    `closed_reason`: why it was requested again (parse.Unreadable's reasons, CUT_IN_THINKING).
    """

    choice: str | None
    usage: Usage
    closed_reason: str | None = None


def baseline_judge(engine: Engine, profile: Profile) -> JudgeItem:
    """Return the baseline named by the setup's `judge`, on a started engine. Engine failures end the run."""

    async def judge(item: Item, setup: EvalSetup) -> ItemResult:
        if setup.judge != "absolute" and len(item.responses) > len(LETTERS):
            return item_result(item, TOO_MANY)
        task = Task(item.messages, item.responses, options=setup.item_options(item))
        # Never split over several prompts: a pick needs all responses side by side.
        sampler = _BaselineSampler(engine, item, setup, plan(task, profile, split=False))
        started = time.monotonic()
        try:
            results = await gather(sampler.sample(i) for i in range(setup.k))
        except GRMError as error:
            return failed_result(item, setup, error)
        return item_result(
            item,
            None if any(sample.scores for sample, _ in results) else AllUnreadable.code,
            tuple(sample for sample, _ in results),
            sum((usage for _, usage in results), Usage()),
            fingerprint=setup.fingerprint,
            model=engine.model,
            seconds=time.monotonic() - started,
        )

    return judge


def check_options(judge: JudgeKind, options: JudgeOptions, url: str | None) -> None:
    """Raise BadTask if a baseline gets options that only the service's judge supports."""
    unsupported = any(getattr(options, name) != getattr(JudgeOptions(), name) for name in _GRM_ONLY)
    if judge != "grm" and (url or unsupported):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in _GRM_ONLY)
        raise BadTask(f"--judge {judge} runs in this process only, and does not support --url, {flags}")


def check_engine(engine: Engine, judge: JudgeKind) -> None:
    """Raise BadTask if a started engine lacks an ability that the baseline needs."""
    lacking = {"continues", "alternatives"} & set(engine.abilities.lacking())
    if judge == "logprob" and lacking:
        raise BadTask(f"logprob needs what the engine {engine.name} lacks: {', '.join(sorted(lacking))}")


def prompt_fingerprint(profile: Profile, judge: JudgeKind) -> str:
    """Return the hash of the profile and, for a baseline, of its own prompt."""
    if judge == "grm":
        return fingerprint(profile)
    return "sha256:" + hashlib.sha256((fingerprint(profile) + TEMPLATES[judge]).encode()).hexdigest()


def score_scale(profile: Profile, judge: JudgeKind) -> Scale:
    """Return the range of a sample's scores; a picked response has 1, the others 0."""
    return profile.scale if judge in ("grm", "absolute") else Scale(0, 1)


class _BaselineSampler:
    """Generates the samples of one item."""

    def __init__(self, engine: Engine, item: Item, setup: EvalSetup, planned: Plan) -> None:
        self._engine, self._item, self._judge, self._planned = engine, item, setup.judge, planned
        self._texts = task_texts(
            planned.profile,
            item.messages,
            item.responses,
            control_tokens=engine.control_tokens,
            template=TEMPLATES[setup.judge],
        )

    async def sample(self, index: int) -> tuple[SampleResult, Usage]:
        n, params = len(self._item.responses), self._planned.params(index)
        if self._judge == "absolute":
            return await self._score_alone(params)
        # The usual LLM-as-judge prompt has one order; `swapped` measures what balancing adds.
        order = self._planned.orders[0 if self._judge == "pairwise" else index]
        prompt = self._prompt({LETTERS[at]: i for at, i in enumerate(order)})
        if self._judge == "logprob":
            return await self._letter_probabilities(prompt, order, params)
        answer = await self._answer(prompt, params, LETTERS[:n], _BEST)
        best = None if answer.choice is None else order[LETTERS.index(answer.choice)]
        scores = None if best is None else tuple(float(i == best) for i in range(n))
        return _result(order, scores, "no_choice", answer.usage, answer.closed_reason)

    async def _score_alone(self, params: Params) -> tuple[SampleResult, Usage]:
        scale, responses = self._planned.profile.scale, self._item.responses
        choices = [str(x) for x in range(scale.max, scale.min - 1, -1)]
        answers = await gather(
            self._answer(self._prompt({"1": i}), params, choices, _SCORE) for i in range(len(responses))
        )
        read = [float(answer.choice) for answer in answers if answer.choice is not None]
        scores = tuple(read) if len(read) == len(responses) else None
        usage = sum((answer.usage for answer in answers), Usage())
        # The prompt holds a single response, so this order is a placeholder.
        order = tuple(range(len(responses)))
        reason = next((answer.closed_reason for answer in answers if answer.closed_reason), None)
        return _result(order, scores, "no_score", usage, reason)

    async def _letter_probabilities(
        self, prompt: Prompt, order: tuple[int, ...], params: Params
    ) -> tuple[SampleResult, Usage]:
        # One greedy token: only its alternatives are read.
        params = replace(params, max_tokens=1, temperature=0.0, top_p=1.0, alternatives=ALTERNATIVES)
        completion = await self._complete(replace(prompt, continuation=_BEST), params)
        probability = dict.fromkeys(order, 0.0)
        # A server that thinks in spite of the continuation returns the alternatives of its thinking.
        answers = completion.alternatives and completion.thinking is None
        for token in completion.alternatives[0] if answers else ():
            letter = token.text.strip().removesuffix("}")
            if letter in LETTERS[: len(order)]:
                probability[order[LETTERS.index(letter)]] += math.exp(token.logprob)
        total = math.fsum(probability.values())
        # Normalised over the letters, so that samples have equal weight in the vote.
        scores = tuple(probability[i] / total for i in range(len(order))) if total else None
        return _result(order, scores, "no_letter_tokens", completion.usage, None)

    async def _answer(self, prompt: Prompt, params: Params, choices: Sequence[str], closing: str) -> _Answer:
        completion = await self._complete(prompt, params)
        choice, reason = _read(completion, choices, self._planned.profile)
        if choice is not None:
            return _Answer(choice, completion.usage)
        thinking = completion.thinking
        if self._engine.abilities.continues_after(thinking):
            start = f"{parse.before_closing(completion.text, self._planned.profile)}\n\n{closing}"
            params = replace(params, max_tokens=_CLOSING_TOKENS, regex=f" ?({'|'.join(choices)})\\}}")
            again = await self._complete(replace(prompt, continuation=start, thinking=thinking), params)
            written = again.text.partition("}")[0].strip()
            choice = written if written in choices and again.thinking is None else None
        elif (
            reason == CUT_IN_THINKING
            and (retry := to_get_an_answer(self._engine, params, self._planned.profile.thinking)) != params
        ):
            again = await self._complete(prompt, retry)
            choice, _ = _read(again, choices, self._planned.profile)
        else:
            return _Answer(None, completion.usage, reason)
        return _Answer(choice, completion.usage + again.usage, reason)

    def _to_ask_again(self, params: Params) -> Params:
        return to_get_an_answer(self._engine, params, self._planned.profile.thinking)

    async def _complete(self, prompt: Prompt, params: Params) -> Completion:
        return await complete(self._engine, prompt, params, self._planned.profile.thinking)

    def _prompt(self, labelled: Mapping[str, int]) -> Prompt:
        """Return the prompt that shows the responses with these indices under their labels."""
        profile = self._planned.profile
        texts = [self._texts.responses[i] for i in labelled.values()]
        values = {
            "n": str(len(texts)),
            "conversation": self._texts.conversation,
            "responses": join_responses(profile, texts, tuple(labelled)),
            "min": str(profile.scale.min),
            "max": str(profile.scale.max),
        }
        system = (Message("system", profile.prompt.system),) if profile.prompt.system else ()
        user = Message("user", fill(TEMPLATES[self._judge], values))
        return Prompt((*system, user), group=self._item.digest)


def _read(completion: Completion, choices: Sequence[str], profile: Profile) -> tuple[str | None, str | None]:
    """Return the choice in the answer, or None and the reason."""
    if completion.is_cut_in_thinking:
        return None, CUT_IN_THINKING
    try:
        written = parse.find_box(completion.text, profile)[1].strip().removeprefix(f"{_NAME} ")
    except parse.Unreadable as unreadable:
        return None, unreadable.reason
    return (written, None) if written in choices else (None, _NO_SUCH_CHOICE)


def _result(
    order: tuple[int, ...],
    scores: tuple[float, ...] | None,
    error: str,
    usage: Usage,
    closed_reason: str | None,
) -> tuple[SampleResult, Usage]:
    """Return a sample and its usage; without scores its error is `error`, or that its thinking was cut."""
    closed = scores is not None and closed_reason is not None
    sample = SampleResult(
        order,
        scores,
        None if scores else CUT_IN_THINKING if closed_reason == CUT_IN_THINKING else error,
        closed,
        usage.completion_tokens,
        closed_reason=closed_reason if closed else None,
    )
    return sample, usage
