"""A world of known qualities: a policy whose drafts say how good they are, and judges of known taste."""

import re

from grm_service.engines.scripted import ScriptedEngine
from grm_service.improving.lineage import ImproveTask, Standard
from grm_service.judging.orders import sample_seed
from grm_service.profiles.catalog import load_catalog
from grm_service.types import JudgeOptions, Message

QUERY = (Message("user", "Name a prime."),)
_SHOWN = re.compile(
    r"^\[The Begin of Response \d+\]\n(.*?)\n\[The End of Response \d+\]$", re.DOTALL | re.MULTILINE
)
_QUALITY = re.compile(r"quality (\d+)")


def quality(text, seed=0):
    found = _QUALITY.search(text)
    return int(found[1]) if found else 1


def noisy(text, seed):
    """By quality, one up or down from sample to sample, and not alike for all texts."""
    return min(10, max(1, quality(text) + (seed + len(text)) % 3 - 1))


def longest(text, seed):
    """By nothing but length."""
    return min(10, 1 + len(text) // 20)


def policy_of(*qualities, better=lambda old: min(10, old + 2), filler=""):
    """First drafts of these qualities in turn; a revision is as much better as `better` says."""
    by_seed = {sample_seed(0, i): each for i, each in enumerate(qualities)}

    def write(prompt, params):
        if len(prompt.messages) == len(QUERY):
            return f"A draft of quality {by_seed.get(params.seed, qualities[-1])}."
        old = prompt.messages[-2].content
        # Longer each time by the filler, and no two alike.
        return (
            f"Revision {params.seed % 997} of quality {better(quality(old))}. {filler}"
            + old.partition(". ")[2]
        )

    return write


def engine_of(policy, judge=quality, second=None):
    """One engine for policy and judge; `second` judges where principles are given."""

    def write(prompt, params):
        shown = _SHOWN.findall(prompt.messages[-1].content)
        if not shown:
            return policy(prompt, params)
        taste = second if second and "Judge only by these criteria" in prompt.messages[-1].content else judge
        told = "\n".join(f"Response {i} is of note." for i in range(1, 1 + len(shown)))
        scores = ", ".join(str(taste(text, params.seed)) for text in shown)
        return f" answers.\n\nAnalysis:\n{told}\n\nScores: \\boxed{{{scores}}}"

    return ScriptedEngine(write)


PROFILE = load_catalog().profile("smollm2-135m")


def brief(standard=None, critique_tokens=None, k=4, seed=0, **changed):
    standard = standard or Standard()
    options = JudgeOptions(k=k, seed=seed, max_tokens=critique_tokens, principles=standard.principles)
    asked = {"messages": QUERY, "max_tokens": 64, "profile": standard.profile, "options": options}
    return ImproveTask(**asked | changed)
