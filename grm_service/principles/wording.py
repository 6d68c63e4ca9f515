"""What of a principle's text counts when two are compared: its words, without dress.

Texts come from small models as well as from people: long, looping, in any script. Everything here is linear
and stops after so many characters.
"""

from __future__ import annotations

import re

MAX_CHARS = 1000

# Never longer than what it matches, so that joined words are never cut anew.
_WORD = re.compile(r"\d+(?:\.\d+)+(?![^\W_])(?:%(?![^\W_]))?|[^\W_]+(?:'[^\W_]+)*(?:%(?![^\W_]))?")
_NUMBERING = re.compile(r"^\s*(?:(?:[\d.]{1,20}[.):]|[-*•#]{1,6})\s+)+")
_NUMBER = re.compile(r"\d+(?:\.\d+)*%?")
_SHARE = re.compile(r"[(\[]\s{0,9}\d{1,3}(?:\.\d{1,4})?\s{0,9}%\s{0,9}[)\]]")
# "A good response to this question must have", "It should be", "The answer is": the principle comes after.
_FRAME = re.compile(
    r"(?:(?:each|every|any|all) )?(?:(?:good|better|best|ideal) )?(?:response|answer|reply|it)"
    r"(?: to (?:this |user )?(?:question|query|prompt))?"
    r"(?: (?:must|should|will|would|shall|can|could|may|ought to|need to|has to|have to))?(?: also)?"
    r"(?: be able to)?(?: (?:be|is|are|have|has|provide|give|contain|include))? "
)
_IMPERATIVE = re.compile(r"(?:be|have|provide|give|contain|include) ")


def words(text: str, most: int = MAX_CHARS) -> list[str]:
    """The words of the first `most` characters in small letters, hyphens and all other signs left out."""
    return _WORD.findall(text[:most].replace("\u2019", "'").casefold()[:most])


def stem(word: str) -> str:
    """Without the -s of plurals, verbs and owners: "gives" is "give" and "user's" is "user"."""
    while word.endswith("'s"):
        word = word[:-2]
    return word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2] not in "siu'" else word


def stems(listed: str) -> frozenset[str]:
    """The stems of words that stand in a list."""
    return frozenset(map(stem, listed.split()))


_ARTICLES = stems("a an the")
_ENGLISH = stems("and are for how is my of that the this to what which why with you your")
_EMPTY = _ENGLISH | stems(
    """a about after all also am an any as at be because been before being both but by can could did do does
    doing done each either enough every few from had has have having he her his i if in into it its itself
    just least let like made make many may me might more most much must need off on once one only or other
    our out over own per rather same shall she should so some something anything everything such than their
    them then there these they those through too under until up upon us very was we were when where whether
    while who whom whose will would yet"""
)


def normalise(text: str) -> str:
    """The key under which near-identical principles are one; "" where there is no word.

    Case, punctuation, numbering, weights, articles, a plural or verbal -s, and an opening such as "A good
    response to this question must have" make no difference. Idempotent.
    """
    bare = _SHARE.sub(" ", _NUMBERING.sub("", text[:MAX_CHARS]))
    kept: list[str] = []
    for word in map(stem, words(bare)):
        if kept and kept[-1] == "weight" and _NUMBER.fullmatch(word):
            kept.pop()
        elif word not in _ARTICLES:
            kept.append(word)
    key = " ".join(kept)
    while found := _FRAME.match(key) or _IMPERATIVE.match(key):
        key = key[found.end() :]
    return key


def content(text: str, most: int = MAX_CHARS) -> frozenset[str]:
    """The stems of the words that carry meaning; negations do."""
    return frozenset(map(stem, words(text, most))) - _EMPTY


def is_english(text: str) -> bool:
    """Whether a text has small words that English alone has: words tell little of other texts here."""
    return not _ENGLISH.isdisjoint(words(text))
