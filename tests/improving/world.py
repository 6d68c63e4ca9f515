"""A simulated policy whose drafts state their quality, and judges with known preferences."""

import re

from grm_service.engines.scripted import ScriptedEngine
from grm_service.improving.lineage import ImproveTask, Standard
from grm_service.judging.orders import sample_seed
from grm_service.profiles.catalog import load_catalog
from grm_service.types import JudgeOptions, Message

QUERY = (Message("user", "Name a prime."),)
_RESPONSES = re.compile(
    r"^\[The Begin of Response \d+\]\n(.*?)\n\[The End of Response \d+\]$", re.DOTALL | re.MULTILINE
)
_OPEN_BOX = re.compile(r"\\boxed\{([^}]*)$")
_QUALITY = re.compile(r"quality (\d+)")


def quality(text, seed=0):
    match = _QUALITY.search(text)
    return int(match[1]) if match else 1


def noisy(text, seed):
    """Score by quality, off by at most one, depending on the seed and the text."""
    return min(10, max(1, quality(text) + (seed + len(text)) % 3 - 1))


def longest(text, seed):
    """Score by length alone."""
    return min(10, 1 + len(text) // 20)


def policy_of(*qualities, better=lambda old: min(10, old + 2), filler=""):
    """Write first drafts of these qualities in turn, and revisions of the quality `better(old)`."""
    by_seed = {sample_seed(0, i): each for i, each in enumerate(qualities)}

    def write(prompt, params):
        if len(prompt.messages) == len(QUERY):
            return f"A draft of quality {by_seed.get(params.seed, qualities[-1])}."
        old = prompt.messages[-2].content
        # Each revision differs from the others and is longer by the filler.
        return (
            f"Revision {params.seed % 997} of quality {better(quality(old))}. {filler}"
            + old.partition(". ")[2]
        )

    return write


def engine_of(policy, judge=quality, second=None):
    """Return one engine for policy and judge; `second` judges if the prompt has fixed principles."""

    def write(prompt, params):
        responses = _RESPONSES.findall(prompt.messages[-1].content)
        if not responses:
            return policy(prompt, params)
        score = second if second and "Judge only by these criteria" in prompt.messages[-1].content else judge
        analysis = "\n".join(f"Response {i} is of note." for i in range(1, 1 + len(responses)))
        scores = ", ".join(str(score(text, params.seed)) for text in responses)
        if (box := _OPEN_BOX.search(prompt.continuation)) is not None:
            return scores.removeprefix(box[1]) + "}"
        return f" answers.\n\nAnalysis:\n{analysis}\n\nScores: \\boxed{{{scores}}}"

    return ScriptedEngine(write)


PROFILE = load_catalog().profile("smollm2-135m")


def task_of(standard=None, critique_tokens=None, k=4, seed=0, options=None, **changed):
    """Return a task; `options` are further judge options."""
    standard = standard or Standard()
    options = JudgeOptions(
        k=k, seed=seed, max_tokens=critique_tokens, principles=standard.principles, **(options or {})
    )
    fields = {"messages": QUERY, "max_tokens": 64, "profile": standard.profile, "options": options}
    return ImproveTask(**fields | changed)
