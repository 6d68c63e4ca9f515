"""A rough classification of queries by keywords, for statistics and never for judging.

The kind with the most distinct keywords wins. It reads English and source code only, and does not resolve
irony or homonyms; queries without keywords are "question" or "other".
"""

from __future__ import annotations

import re
from typing import Literal

QueryKind = Literal["code", "maths", "writing", "safety", "question", "other"]

_MAX_CHARS = 4000


# On a tie the first kind wins: keywords of code are the least ambiguous.
_KEYWORDS: dict[QueryKind, re.Pattern[str]] = {
    "code": re.compile(
        r"```|=>|\b\w{1,40}\(\)|\b(?:api|array|bash|bug|code|compile[sr]?|css|def|docker|exception|functions?|git"
        r"|html|java|javascript|json|linux|loop|php|program|programming|pseudocode|python|regex|rust|script|shell|sql"
        r"|typescript|yaml)\b"
    ),
    "safety": re.compile(
        r"\b(?:abus(?:e|ive)|assault|bomb|cocaine|drugs|explosives?|gun|hack|harass|harm|illegal(?:ly)?|kill(?:ing)?"
        r"|malware|murder|nsfw|poison|porn|racist|rape|sex|sexual|stalk|steal(?:ing)?|strangle|suicide|terrorists?"
        r"|violen(?:t|ce)|weapons?)\b"
    ),
    "maths": re.compile(
        r"\\(?:frac|sqrt|sum|int)|\d\s?[-+*/^×÷=]\s?\d|\d[^?]{0,80}\bhow (?:many|much)\b|\b(?:algebra"
        r"|calculate|calculus|derivative|divided|equations?|fractions?|geometry|integers?|integral|matrix|multiplied"
        r"|percent|polynomial|primes?|probability|proof|prove|solve|sum|theorem|times as|twice)\b"
    ),
    "writing": re.compile(
        r"\b(?:article|blog|caption|draft|edit|email|essay|fiction|haiku|headline|letter|lyrics|novel|paragraph"
        r"|paraphrase|poems?|proofread|rephrase|rewrite|scene|slogan|song|sonnet|speech|stor(?:y|ies)|summari[sz]e"
        r"|summary|translate|write)\b"
    ),
}
_QUESTION = re.compile(
    r"\?|\b(?:how|what|when|where|which|who|why|is|are|can|could|do|does|should|advice|advise|explain|name|recommend"
    r"|suggest|tell me)\b"
)


def kind_of(query: str) -> QueryKind:
    """Return the kind of a query, by its first 4,000 characters."""
    text = query[:_MAX_CHARS].casefold()
    hits = {kind: len(set(keywords.findall(text))) for kind, keywords in _KEYWORDS.items()}
    likeliest = max(hits, key=hits.__getitem__)
    if hits[likeliest]:
        return likeliest
    return "question" if _QUESTION.search(text) else "other"
