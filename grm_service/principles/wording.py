"""Normalisation of a principle's text, so that near-identical wordings compare equal.

Texts come from small models as well as from people: they may be long, repetitive and in any script. All
functions run in linear time and read a limited number of characters.
"""

from __future__ import annotations

import re

MAX_CHARS = 1000

# Splitting the joined words again gives the same words, so that `normalise` is idempotent.
_WORD = re.compile(r"\d+(?:\.\d+)+(?![^\W_])(?:%(?![^\W_]))?|[^\W_]+(?:'[^\W_]+)*(?:%(?![^\W_]))?")
_NUMBERING = re.compile(r"^\s*(?:(?:[\d.]{1,20}[.):]|[-*•#]{1,6})\s+)+")
_NUMBER = re.compile(r"\d+(?:\.\d+)*%?")
_SHARE = re.compile(r"[(\[]\s{0,9}\d{1,3}(?:\.\d{1,4})?\s{0,9}%\s{0,9}[)\]]")
# Openings: "A good response to this question must have", "It should be", "The answer is".
_OPENING = re.compile(
    r"(?:(?:each|every|any|all) )?(?:(?:good|better|best|ideal) )?(?:response|answer|reply|it)"
    r"(?: to (?:this |user )?(?:question|query|prompt))?"
    r"(?: (?:must|should|will|would|shall|can|could|may|ought to|need to|has to|have to))?(?: also)?"
    r"(?: be able to)?(?: (?:be|is|are|have|has|provide|give|contain|include))? "
)
_IMPERATIVE = re.compile(r"(?:be|have|provide|give|contain|include) ")


def words(text: str, max_chars: int = MAX_CHARS) -> list[str]:
    """Return the case-folded words of the first `max_chars` characters, without punctuation."""
    return _WORD.findall(text[:max_chars].replace("\u2019", "'").casefold()[:max_chars])


def stem(word: str) -> str:
    """Strip the -s of plurals, verbs and possessives: "give" for "gives", "user" for "user's"."""
    while word.endswith("'s"):
        word = word[:-2]
    return word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2] not in "siu'" else word


def stems(listed: str) -> frozenset[str]:
    """Return the stems of whitespace-separated words."""
    return frozenset(map(stem, listed.split()))


_ARTICLES = stems("a an the")
_ENGLISH = stems("and are for how is my of that the this to what which why with you your")
_FUNCTION_WORDS = _ENGLISH | stems(
    """a about after all also am an any as at be because been before being both but by can could did do does
    doing done each either enough every few from had has have having he her his i if in into it its itself
    just least let like made make many may me might more most much must need off on once one only or other
    our out over own per rather same shall she should so some something anything everything such than their
    them then there these they those through too under until up upon us very was we were when where whether
    while who whom whose will would yet"""
)


def normalise(text: str) -> str:
    """Return a key that is equal for near-identical principles; "" for a text without words.

    Ignores case, punctuation, numbering, weights, articles, a plural or verbal -s, and openings such as "A
    good response to this question must have". Idempotent.
    """
    bare = _SHARE.sub(" ", _NUMBERING.sub("", text[:MAX_CHARS]))
    retained: list[str] = []
    for word in map(stem, words(bare)):
        if retained and retained[-1] == "weight" and _NUMBER.fullmatch(word):
            retained.pop()
        elif word not in _ARTICLES:
            retained.append(word)
    key = " ".join(retained)
    while opening := _OPENING.match(key) or _IMPERATIVE.match(key):
        key = key[opening.end() :]
    return key


def content(text: str, max_chars: int = MAX_CHARS) -> frozenset[str]:
    """Return the stems of the content words of a text: all but function words; negations count."""
    return frozenset(map(stem, words(text, max_chars))) - _FUNCTION_WORDS


def is_english(text: str) -> bool:
    """Return whether a text has function words that only English has."""
    return not _ENGLISH.isdisjoint(words(text))
