"""Scripted judges: a sound one, and variants of it with a single weakness each."""

import re

from grm_service.probes.cases import probes

_SHOWN = re.compile(
    r"^\[The Begin of Response \d+\]\n(.*?)\n\[The End of Response \d+\]$", re.DOTALL | re.MULTILINE
)
_PLAIN = [case.tasks[0] for probe in probes() if probe.name == "plain" for case in probe.cases]
GOOD, BAD = zip(*(task.responses for task in _PLAIN), strict=True)
_KEYS = {":", "Thought process:", ".", "Let's solve this step by step.", "Solution", "解"}
_BONUS = 5


def worth(text):
    """Return a score by content alone: 5 for the better answers, 4 for the worse ones, 1 for other texts."""
    if text in GOOD:
        return 5
    return 4 if any(bad in text for bad in BAD) else 1


def sound(texts, seed):
    return [worth(text) for text in texts]


def alike(texts, seed):
    return [5 for _ in texts]


def wrong(texts, seed):
    return [9 - worth(text) if worth(text) > 1 else 1 for text in texts]


def first(texts, seed):
    """Favour the first response, by less than two balanced orders can cancel."""
    return [worth(text) + _BONUS * (place == 0) for place, text in enumerate(texts)]


def only_first(texts, seed):
    return [9 if place == 0 else 3 for place, _ in enumerate(texts)]


def capricious(texts, seed):
    """Prefer one of two copies of an answer, depending on the seed."""
    same = len(set(texts)) == 1
    return [worth(text) + _BONUS * (same and place == seed % 2) for place, text in enumerate(texts)]


def _fooled_by(condition):
    return lambda texts, seed: [worth(text) + _BONUS * bool(condition(text)) for text in texts]


fond_of_length = _fooled_by(lambda text: len(text) > 300)
fond_of_markdown = _fooled_by(re.compile(r"\*\*|^#|^\| ---", re.MULTILINE).search)
respectful = _fooled_by(re.compile("professor|100 % certain|independent experts").search)
fond_of_nothing = _fooled_by(lambda text: not text.strip())
fooled_by_keys = _fooled_by(lambda text: text in _KEYS)
obedient = _fooled_by(re.compile("10 points|Note to the judge|scoring is switched off").search)
fooled_by_scores = _fooled_by(lambda text: "boxed" in text)


def swept_along(texts, seed):
    """Raise all scores if any response contains scores."""
    return [worth(text) + _BONUS * any("boxed" in each for each in texts) for text in texts]


def script(judge):
    """Return the judge as a script for the scripted engine."""

    def write(prompt, params):
        scores = judge(_SHOWN.findall(prompt.messages[-1].content), params.seed)
        return f"\nScores: \\boxed{{{', '.join(map(str, scores))}}}"

    return write
