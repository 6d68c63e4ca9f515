r"""What else the same model can do for a verdict, without principles: the method is compared, not the model.

`pairwise` explains and picks the best of the responses, all in one prompt, in one order that is drawn once
an item. `swapped` does so in balanced orders, so that of a pair both stand first equally often. `absolute`
scores every response alone. `logprob` writes nothing: it reads the probabilities of the letters, once an
order. Answers stand in `\boxed{}`, which no response can forge (core/prompt.py), and one that was not given
is asked for under a constraint, as the service does.
"""

from __future__ import annotations

import hashlib
import math
import string
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from grm_service.concurrency import gather
from grm_service.engines.base import Engine
from grm_service.errors import AllUnreadable, BadTask, GRMError
from grm_service.evaluation.dataset import Item
from grm_service.evaluation.judges import JudgeItem, finding, finished, options
from grm_service.evaluation.run_folder import EvalSetup, ItemResult, JudgeKind, SampleResult
from grm_service.judging import parse
from grm_service.judging.plan import Plan, plan
from grm_service.judging.prompt import neutraliser
from grm_service.judging.sampler import complete
from grm_service.judging.soft_scores import ALTERNATIVES
from grm_service.profiles.catalog import fingerprint
from grm_service.profiles.profile import Profile, Scale, fill
from grm_service.types import JudgeOptions, Message, Params, Prompt, Task, Usage

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
"""Turns and responses look as the profile has them."""
# Behind the word that stands before them in the prompt, letters are what a model expects.
_NAME = "Response"
_BEST, _SCORE = f"\\boxed{{{_NAME}", "\\boxed{"
_CLOSING_TOKENS = 8
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class _Answer:
    """One of the choices, or None where none could be read."""

    choice: str | None
    closed: bool
    usage: Usage


def baseline(engine: Engine, profile: Profile) -> JudgeItem:
    """Asks a started engine as the setup's `judge` says. An engine's failure ends the run."""

    async def ask(item: Item, setup: EvalSetup) -> ItemResult:
        if setup.judge != "absolute" and len(item.responses) > len(LETTERS):
            return finished(item, TOO_MANY)
        task = Task(item.messages, item.responses, options=JudgeOptions(**options(item, setup)))
        taking, began = _Taking(engine, item, setup, plan(task, profile, split=False)), time.monotonic()
        try:
            taken = await gather(taking.take(i) for i in range(setup.k))
        except GRMError as wrong:
            return finding(item, wrong)
        return finished(
            item,
            None if any(sample.scores for sample, _ in taken) else AllUnreadable.code,
            tuple(sample for sample, _ in taken),
            sum((usage for _, usage in taken), Usage()),
            fingerprint=setup.fingerprint,
            model=engine.model,
            seconds=time.monotonic() - began,
        )

    return ask


def require(engine: Engine, judge: JudgeKind) -> None:
    """Raises BadTask where a started engine cannot do what the baseline needs."""
    lacking = {"continues", "alternatives"} & set(engine.abilities.lacking())
    if judge == "logprob" and lacking:
        raise BadTask(f"logprob needs what the engine {engine.name} lacks: {', '.join(sorted(lacking))}")


def fingerprint_of(profile: Profile, judge: JudgeKind) -> str:
    """Of all that the model is asked by: the profile, and a baseline's own prompt."""
    if judge == "grm":
        return fingerprint(profile)
    return "sha256:" + hashlib.sha256((fingerprint(profile) + TEMPLATES[judge]).encode()).hexdigest()


def scale_of(profile: Profile, judge: JudgeKind) -> Scale:
    """Between which numbers a sample scores: a pick is 1, what was not picked 0."""
    return profile.scale if judge in ("grm", "absolute") else Scale(0, 1)


class _Taking:
    """Takes the samples of one item."""

    def __init__(self, engine: Engine, item: Item, setup: EvalSetup, planned: Plan) -> None:
        self._engine, self._item, self._judge, self._planned = engine, item, setup.judge, planned

    async def take(self, index: int) -> tuple[SampleResult, Usage]:
        n, params = len(self._item.responses), self._planned.params(index)
        if self._judge == "absolute":
            return await self._alone(params)
        order = self._planned.orders[0 if self._judge == "pairwise" else index]
        prompt = self._prompt({LETTERS[at]: self._item.responses[i] for at, i in enumerate(order)})
        if self._judge == "logprob":
            return await self._chances(prompt, order, params)
        answer = await self._answer(prompt, params, LETTERS[:n], _BEST)
        best = None if answer.choice is None else order[LETTERS.index(answer.choice)]
        scores = None if best is None else tuple(float(i == best) for i in range(n))
        return _taken(order, scores, "no_choice", answer.usage, answer.closed)

    async def _alone(self, params: Params) -> tuple[SampleResult, Usage]:
        scale, responses = self._planned.profile.scale, self._item.responses
        choices = [str(x) for x in range(scale.max, scale.min - 1, -1)]
        answers = await gather(
            self._answer(self._prompt({"1": response}), params, choices, _SCORE) for response in responses
        )
        read = [float(answer.choice) for answer in answers if answer.choice is not None]
        scores = tuple(read) if len(read) == len(responses) else None
        usage = sum((answer.usage for answer in answers), Usage())
        # Nothing is shown beside it, so that no order means anything.
        order = tuple(range(len(responses)))
        return _taken(order, scores, "no_score", usage, any(answer.closed for answer in answers))

    async def _chances(
        self, prompt: Prompt, order: tuple[int, ...], params: Params
    ) -> tuple[SampleResult, Usage]:
        params = Params(1, seed=params.seed, alternatives=ALTERNATIVES)
        completion = await complete(self._engine, replace(prompt, continuation=_BEST), params)
        found = dict.fromkeys(order, 0.0)
        for token in completion.alternatives[0] if completion.alternatives else ():
            letter = token.text.strip().removesuffix("}")
            if letter in LETTERS[: len(order)]:
                found[order[LETTERS.index(letter)]] += math.exp(token.logprob)
        total = math.fsum(found.values())
        scores = tuple(found[i] / total for i in range(len(order))) if total else None
        return _taken(order, scores, "no_letter_tokens", completion.usage, False)

    async def _answer(self, prompt: Prompt, params: Params, choices: Sequence[str], closing: str) -> _Answer:
        completion = await complete(self._engine, prompt, params)
        try:
            written = parse.find_box(completion.text)[1].strip().removeprefix(f"{_NAME} ")
        except parse.Unreadable:
            written = ""
        if written in choices or not self._engine.abilities.continues:
            return _Answer(written if written in choices else None, False, completion.usage)
        start = f"{parse.before_closing(completion.text)}\n\n{closing}"
        params = replace(params, max_tokens=_CLOSING_TOKENS, regex=f" ?({'|'.join(choices)})\\}}")
        closed = await complete(self._engine, replace(prompt, continuation=start), params)
        written, usage = closed.text.partition("}")[0].strip(), completion.usage + closed.usage
        return _Answer(written, True, usage) if written in choices else _Answer(None, False, usage)

    def _prompt(self, shown: Mapping[str, str]) -> Prompt:
        """About responses under their labels."""
        profile = self._planned.profile
        template, clean = profile.prompt, neutraliser(profile, self._engine.control_tokens)
        said = self._item.messages
        turns = (fill(template.turn, {"role": m.role, "content": clean(m.content)}) for m in said)
        responses = (fill(template.response, {"i": i, "content": clean(text)}) for i, text in shown.items())
        values = {
            "n": str(len(shown)),
            "conversation": "\n".join(turns),
            "responses": "\n".join(responses),
            "min": str(profile.scale.min),
            "max": str(profile.scale.max),
        }
        system = (Message("system", template.system),) if template.system else ()
        asked = Message("user", fill(TEMPLATES[self._judge], values))
        return Prompt((*system, asked), group=self._item.digest)


def _taken(
    order: tuple[int, ...], scores: tuple[float, ...] | None, error: str, usage: Usage, closed: bool
) -> tuple[SampleResult, Usage]:
    """The sample; `error` is why it has no scores, where it has none."""
    taken = SampleResult(order, scores, None if scores else error, closed, usage.completion_tokens)
    return taken, usage
