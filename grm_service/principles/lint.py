"""A lexical linter for principles: faults of a principle that show in its words.

It detects principles that depend on a subjective word ("engaging"), join two demands, are about length or
form, reward a claim that any response can make about itself, repeat another principle of the set, or have no
word in common with the query. It knows words, not meaning: it cannot tell whether a principle is true or
fair, misses synonyms ("city" for "capital") and reads English only. A finding needs a human check, and the
absence of findings proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from grm_service.principles.wording import content, is_english, normalise, stem, stems, words

Rule = Literal["subjective", "compound", "ungrounded", "style", "redundant", "gameable"]

MIN_SIMILARITY = 0.75
"""Minimum Jaccard similarity of the words of two principles that are near duplicates."""
MIN_SPECIFIC = 3
"""Minimum number of specific words, none of them in the query, of an ungrounded principle. Fewer may be
synonyms.
"""
_QUERY_CHARS = 20_000
_MAX_WORDS = 3

_ADVICE: dict[Rule, str] = {
    "subjective": "readers differ on {}: state something that can be checked",
    "compound": "two demands, joined at {}: split them into two principles",
    "ungrounded": "the query does not mention {}: relate the principle to the query, or remove it",
    "style": "{} is about length or form: describe the content, or state that the query requires it",
    "redundant": "nearly the same as principle {}: remove one of them",
    "gameable": "any response can satisfy {} by claiming it: state what must be true of the response",
}


def _any(phrases: str) -> re.Pattern[str]:
    """Return a pattern of any of the phrases, with `_` for spaces, in text normalised by `wording.words`."""
    return re.compile(rf"\b(?:{'|'.join(phrases.split()).replace('_', ' ')})\b")


_SUBJECTIVE = _any(
    r"""adequate(?:ly)? appropriate(?:ly)? authentic balanced beautiful(?:ly)? best clarity clear(?:ly)?
    compelling comprehensive(?:ly)? convincing creativ(?:e|ely|ity) detailed eas(?:y|ily) effective(?:ly)?
    elegan(?:t|tly|ce) engaging enjoyable excellent fun (?:good|better)(?!_(?:response|answer))
    (?:be|is|are)_(?:a_)?good_(?:response|answer) great helpful(?:ly|ness)? high_quality impactful
    impressive inappropriate informative insightful inspiring interesting intuitive meaningful
    natural(?:ly)? nice perfect(?:ly)? pleasant pleasing quality reasonabl[ey] satisfactory satisfying
    simplistic sufficient(?:ly)? suitabl[ey] thorough(?:ly)? thoughtful(?:ly)? useful(?:ly|ness)? valuable
    well(?!_(?:as|known)\b)"""
)
_FORM = _any(
    r"""(?:\d+|one|two|three)_(?:words?|sentences?|paragraphs?|lines?|characters?) unnecessary_words? bold
    brevity brief(?:ly)? bullets? bullet_points? concise(?:ly|ness)? courteous eloquen(?:t|tly|ce)
    embellishments? emojis? fluen(?:t|tly|cy) format(?:s|ted|ting)? friendly grammar grammatical(?:ly)?
    headings? italics? layout length(?:s|y)? long(?!_(?:as|run|term)\b) longer markdown numbered_list
    organi[sz]ed polite(?:ly|ness)? punctuation readab(?:le|ility) short(?!_(?:of|run|term)\b) shorter
    spelling structured style stylish succinct(?:ly)? tone typos? verbos(?:e|ity) wordy"""
)
_CLAIM = _any(
    r"""(?:appear|seem|sound)s?_(?:to_be|certain|credible|knowledgeable|plausible|professional|right|sure|true)
    assertive(?:ly)? authoritative(?:ly)? (?:begin|end|start)s?_with certainty citations? cit(?:e|es|ing)
    confiden(?:t|tly|ce) expertise full_marks keywords? mention(?:s|ing)? \d+_points?
    (?:claim|say|state)s?_that_(?:it|the_response)_(?:is|has) ratings? references?(?!_answer) scores?
    sources?(?!_code) step_by_step thought_process (?:contain|include|use)s?_the_(?:phrase|term|word)s?"""
)
_QUALITY = (
    "accura(?:te|cy)|clear(?:ly)?|clarity|coheren(?:t|ce)|complete(?:ness)?|concise|consisten(?:t|cy)"
    "|correct(?:ness)?|creativ(?:e|ity)|detailed|eas(?:y|ily)|effective|engaging|factual|fair|helpful|honest"
    "|informative|justifiable|logical|original|polite|precise|readable|relevan(?:t|ce)|respectful|safe(?:ty)?"
    "|structured|thorough|thoughtful|true|unbiased|useful|valuable|well \\w+"
)
_AND = "(?:and|as well as|but(?: it is)? also)(?: also| then)?"
_COMPOUND = (
    re.compile(rf"\b({_QUALITY}) {_AND} (?!\1)(?:{_QUALITY})\b"),
    re.compile(
        rf"\b{_AND} (?:must|should|shall|does not"
        r"|(?:acknowledg|avoid|contain|demonstrat|describ|ensur|explain|follow|giv|identif|includ|mention|offer|provid"
        r"|refus|suggest)(?:e|es|s|y|ies)?)\b"
    ),
)

_NEGATED = _any("by_(?:itself|themselves) (?:count|earn)s?_(?:for_)?nothing no_matter rather_than regardless")
_REQUIRED = _any("asked instruct(?:s|ed|ions?) limits? request(?:s|ed)? require[sd] stated")
_VERIFIED = _any("accurate checked correct exists? holds? real supports? true verif(?:y|ied|iable)")
_NEGATIONS = frozenset({"avoid", "avoids", "never", "no", "not", "nothing", "without"})

# Words that judges use for any query.
_GENERAL = stems(
    """ability able accuracy accurate action actionable add address answer aspect assumption audience avoid
    based best better bias biased claim code coherent complete completely completeness complex concept
    conclusion consider consistent contain content context conversation convey correct correctly
    correctness cover criteria criterion deliver demonstrate depth describe directly discuss element end
    error evidence example exist experience explain explanation express fact factual factually fair false
    find focus follow following general given good harm harmful help honest idea identify impact important
    inaccurate include incorrect information input instruction intent irrelevant issue judge key knowledge
    language level list logical make meaning meet message mislead misleading missing multiple necessary
    need needed never no not nothing number opinion output overall part person plain point possible precise
    problem prompt proper properly provide purpose query question read reader real reason reasoning related
    relevance relevant reply request requested requirement respectful respond response result right safe
    safety show situation solution specific specified state stated statement step substance support
    supported task text topic true truth truthful type understand understanding unnecessary unsafe use user
    view way without work wrong"""
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of a principle: the rule, the words that break it, and a message with advice."""

    rule: Rule
    words: tuple[str, ...]
    message: str


def lint(texts: Sequence[str], query: str | None = None) -> list[tuple[Finding, ...]]:
    """Return the findings for each principle of a set, in order.

    Only the first MAX_CHARS characters of a principle are checked. The rule "ungrounded" needs a query in
    English.
    """
    query_words = None if query is None else query_content(query)
    contents = [content(normalise(text)) for text in texts]
    return [
        (*_single(text, query_words), *_duplicate(contents[:number], contents[number]))
        for number, text in enumerate(texts)
    ]


def query_content(query: str) -> frozenset[str] | None:
    """Return the content words of a query, or None if it is not in English."""
    return content(query, _QUERY_CHARS) if is_english(query) else None


def specific_words(text: str) -> frozenset[str]:
    """Return the content words of a principle that tie it to particular queries."""
    plain = " ".join(words(text))
    for known in (_SUBJECTIVE, _FORM, _CLAIM):
        plain = known.sub(" ", plain)
    return frozenset(word for word in content(normalise(plain)) - _GENERAL if not word[0].isdigit())


def is_ungrounded(specific: frozenset[str], query_words: frozenset[str]) -> bool:
    """Return whether a principle with these `specific_words` is unrelated to a query with these words."""
    return len(specific) >= MIN_SPECIFIC and specific.isdisjoint(query_words)


def _single(text: str, query_words: frozenset[str] | None) -> Iterator[Finding]:
    """Yield the findings of all rules that look at one principle only."""
    plain = " ".join(words(text))
    hits: dict[Rule, Iterable[str]] = {
        "subjective": _hits(_SUBJECTIVE, plain),
        "compound": (hit for pattern in _COMPOUND for hit in _hits(pattern, plain)),
    }
    if query_words is not None and is_ungrounded(specific := specific_words(text), query_words):
        hits["ungrounded"] = (word for word in words(text) if stem(word) in specific)
    if not (_NEGATED.search(plain) or _REQUIRED.search(plain)):
        hits["style"] = _not_in_query(_hits(_FORM, plain), query_words)
    if not (_NEGATED.search(plain) or _VERIFIED.search(plain)):
        hits["gameable"] = _not_in_query(_affirmed(_CLAIM, plain), query_words)
    for rule, matches in hits.items():
        if first := tuple(dict.fromkeys(matches))[:_MAX_WORDS]:
            yield Finding(rule, first, _ADVICE[rule].format(", ".join(f'"{each}"' for each in first)))


def _duplicate(earlier: Sequence[frozenset[str]], own: frozenset[str]) -> Iterator[Finding]:
    """Yield a finding if a principle repeats an earlier one of the set; both are content words."""
    for number, other in enumerate(earlier, 1):
        if own and len(own & other) >= MIN_SIMILARITY * len(own | other):
            yield Finding("redundant", tuple(sorted(own & other)), _ADVICE["redundant"].format(number))
            return


def _hits(pattern: re.Pattern[str], plain: str) -> Iterator[str]:
    return (hit[0] for hit in pattern.finditer(plain))


def _affirmed(pattern: re.Pattern[str], plain: str) -> Iterator[str]:
    """Yield the hits without a negation shortly before: "names no source" does not reward a source."""
    for hit in pattern.finditer(plain):
        if _NEGATIONS.isdisjoint(plain[: hit.start()].split()[-4:]):
            yield hit[0]


def _not_in_query(hits: Iterable[str], query_words: frozenset[str] | None) -> Iterator[str]:
    """Yield the hits that the query does not mention: a form that the query requires is part of the task."""
    return (hit for hit in hits if query_words is None or content(hit).isdisjoint(query_words))
