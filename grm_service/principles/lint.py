"""What is wrong with a principle as a standard to judge by, as far as its words show.

A lexical linter knows words, not meaning. It can know that a principle leans on a word that every reader
fills differently ("engaging"), joins two demands, speaks of length or form, rewards what any response can
write about itself, repeats its neighbour, or has no word in common with the query. It cannot know whether a
principle is true, fair or worth its weight; it misses a synonym ("city" for "capital") and a fault that is
put in other words, and it reads English only. So what it finds asks for a look, and that it finds nothing
proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from grm_service.principles.wording import content, is_english, normalise, stem, stems, words

Rule = Literal["subjective", "compound", "ungrounded", "style", "redundant", "gameable"]

ALIKE = 0.75
"""The share of the words of two principles that both have, from which on they are near duplicates."""
STRANGE = 3
"""So many words of its own, and none of the query's, make a principle ungrounded: fewer may be synonyms."""
_QUERY_CHARS = 20_000
_SHOWN = 3

_ADVICE: dict[Rule, str] = {
    "subjective": "readers differ on {}: say what one can check",
    "compound": "two demands, joined at {}: make them two principles",
    "ungrounded": "the query speaks of nothing like {}: tie it to the query, or leave it out",
    "style": "{} is about length or form: name the substance, or say that it was asked for",
    "redundant": "much the same as principle {}: keep one of them",
    "gameable": "any response can write what earns {}: say what must be true of it",
}


def _any(phrases: str) -> re.Pattern[str]:
    """One of the words or phrases, whose spaces are written as `_`, in a text as `wording.words` gives it."""
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

_DENIED = _any("by_(?:itself|themselves) (?:count|earn)s?_(?:for_)?nothing no_matter rather_than regardless")
_ASKED = _any("asked instruct(?:s|ed|ions?) limits? request(?:s|ed)? require[sd] stated")
_CHECKED = _any("accurate checked correct exists? holds? real supports? true verif(?:y|ied|iable)")
_NEGATIONS = frozenset({"avoid", "avoids", "never", "no", "not", "nothing", "without"})

# What judges speak of whatever the query is.
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
    """One fault: by which rule, the words that show it, and what to do about it."""

    rule: Rule
    words: tuple[str, ...]
    message: str


def lint(texts: Sequence[str], query: str | None = None) -> list[tuple[Finding, ...]]:
    """What is found on each principle of one set, in its order; "ungrounded" needs a query in English.

    Takes any text, and looks at the first MAX_CHARS characters of each.
    """
    asked = None if query is None else content_of(query)
    said = [content(normalise(text)) for text in texts]
    return [
        (*_alone(text, asked), *_beside(said[:number], said[number])) for number, text in enumerate(texts)
    ]


def content_of(query: str) -> frozenset[str] | None:
    """What a query speaks of, or None where it is not in English."""
    return content(query, _QUERY_CHARS) if is_english(query) else None


def strange(text: str) -> frozenset[str]:
    """The content of a principle that no judge would speak of without a cause in the query."""
    plain = " ".join(words(text))
    for known in (_SUBJECTIVE, _FORM, _CLAIM):
        plain = known.sub(" ", plain)
    return frozenset(word for word in content(normalise(plain)) - _GENERAL if not word[0].isdigit())


def is_ungrounded(own: frozenset[str], asked: frozenset[str]) -> bool:
    """Whether a principle with such `strange` content has nothing to do with a query of that content."""
    return len(own) >= STRANGE and own.isdisjoint(asked)


def _alone(text: str, asked: frozenset[str] | None) -> Iterator[Finding]:
    """The rules that a principle breaks by itself."""
    plain = " ".join(words(text))
    hits: dict[Rule, Iterable[str]] = {
        "subjective": _hits(_SUBJECTIVE, plain),
        "compound": (hit for pattern in _COMPOUND for hit in _hits(pattern, plain)),
    }
    if asked is not None and is_ungrounded(own := strange(text), asked):
        hits["ungrounded"] = (word for word in words(text) if stem(word) in own)
    if not (_DENIED.search(plain) or _ASKED.search(plain)):
        hits["style"] = _unasked(_hits(_FORM, plain), asked)
    if not (_DENIED.search(plain) or _CHECKED.search(plain)):
        hits["gameable"] = _unasked(_affirmed(_CLAIM, plain), asked)
    for rule, found in hits.items():
        if shown := tuple(dict.fromkeys(found))[:_SHOWN]:
            yield Finding(rule, shown, _ADVICE[rule].format(", ".join(f'"{each}"' for each in shown)))


def _beside(others: Sequence[frozenset[str]], said: frozenset[str]) -> Iterator[Finding]:
    """The first of the others that a principle repeats."""
    for number, other in enumerate(others, 1):
        if said and len(said & other) >= ALIKE * len(said | other):
            yield Finding("redundant", tuple(sorted(said & other)), _ADVICE["redundant"].format(number))
            return


def _hits(pattern: re.Pattern[str], plain: str) -> Iterator[str]:
    return (hit[0] for hit in pattern.finditer(plain))


def _affirmed(pattern: re.Pattern[str], plain: str) -> Iterator[str]:
    """Hits that no negation stands close before: "names no source" does not reward a source."""
    for hit in pattern.finditer(plain):
        if _NEGATIONS.isdisjoint(plain[: hit.start()].split()[-4:]):
            yield hit[0]


def _unasked(hits: Iterable[str], asked: frozenset[str] | None) -> Iterator[str]:
    """Hits that the query does not speak of itself: the form that was asked for is substance."""
    return (hit for hit in hits if asked is None or content(hit).isdisjoint(asked))
