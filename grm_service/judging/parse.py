r"""Parse a completion: principles, analysis and scores, or the reason why it has no scores.

Strict on purpose. The commonly copied function takes the last `\boxed{}` OR any `[...]` and drops what is
not a number, so that `\boxed{8, 9} (see list[0])` becomes [0]. Here the last `\boxed{...}` must be in the
position of an answer and hold exactly n finite numbers within the scale; anything else is unreadable, with a
reason, and never a score.
"""

from __future__ import annotations

import re
from itertools import takewhile

from grm_service.profiles.profile import Profile, Scale
from grm_service.types import Critique, Principle

_BOX = "\\boxed{"
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_HALF_BOX = re.compile(r"\\(b(o(x(e(d(\{[^{}\n]*\}?)?)?)?)?)?)?\s*$")
_NUMBER = re.compile(r"[+-]?\d{1,6}(\.\d{1,6})?", re.ASCII)
_LABEL = re.compile(r"(scores?|ratings?|output)\b[^\w]*$", re.IGNORECASE)
_TRAILING_LABEL = re.compile(r"[\s#*$]*(scores?|ratings?|output)\b[^\w]*$", re.IGNORECASE)
_ITEM = re.compile(r"^\s*(?:(?:\d{1,2}[.)]|[-*•])\s+)+")
_WEIGHT = re.compile(r"[(\[]?\s*weights?\s*[:=]?\s*(\d{1,3}(?:\.\d{1,4})?)\s*(%?)\s*[)\]]?", re.IGNORECASE)


class Unreadable(ValueError):
    """A completion without scores: `no_scores`, `wrong_count`, `not_a_number` or `out_of_scale`."""

    @property
    def reason(self) -> str:
        return str(self.args[0])


def parse(text: str, n: int, profile: Profile) -> Critique:
    """Return the critique in a completion about n responses; scores are in the order of the prompt.

    Principles and analysis are parsed leniently, since they do not count in the vote. Raises Unreadable.
    """
    box = find_box(text)
    scores = _scores(box, n, profile.scale)
    criteria, analysis = _sections(text[: box.start()], profile)
    return Critique(parse_principles(criteria), analysis, scores)


def find_box(text: str) -> re.Match[str]:
    r"""Return the last `\boxed{...}` of a completion; group 1 is its content. Raises Unreadable."""
    boxes = list(_BOXED.finditer(text))
    # A later box that is cut off or malformed revises the earlier ones, so none of them counts.
    if not boxes or text.rfind(_BOX) > boxes[-1].start():
        raise Unreadable("no_scores")
    line = text[: boxes[-1].start()].rpartition("\n")[2]
    # A box inside a sentence is a quotation ("its answer \boxed{4} is right"), not the answer.
    if re.search(r"\w", line) and not _LABEL.search(line):
        raise Unreadable("no_scores")
    return boxes[-1]


def _scores(box: re.Match[str], n: int, scale: Scale) -> tuple[float, ...]:
    parts = [part.strip() for part in box[1].split(",")]
    if not all(_NUMBER.fullmatch(part) for part in parts):
        raise Unreadable("not_a_number")
    if len(parts) != n:
        raise Unreadable("wrong_count")
    numbers = tuple(float(part) for part in parts)
    if not all(scale.min <= x <= scale.max for x in numbers):
        raise Unreadable("out_of_scale")
    return numbers


def _sections(text: str, profile: Profile) -> tuple[str, str]:
    """Split the text before the scores into criteria and analysis; text without labels is analysis."""
    body = _TRAILING_LABEL.sub("", text).strip()
    head, label, analysis = _cut(body, profile.sections.analysis)
    before, criteria_label, criteria = _cut(head, profile.sections.criteria)
    if label:
        return criteria if criteria_label else before, analysis
    if criteria_label:
        lines = criteria.splitlines(keepends=True)
        items = list(takewhile(lambda line: _ITEM.match(line) or not line.strip(), lines))
        return "".join(items), "".join(lines[len(items) :]).strip()
    return "", body


def _cut(text: str, label: str) -> tuple[str, bool, str]:
    """Partition the text at the first line that begins with the label, whatever its Markdown."""
    pattern = rf"^[\s#*]*{re.escape(label)}[\s*]*(?::[\s*]*|$)"
    heading = re.search(pattern, text, re.IGNORECASE | re.MULTILINE)
    if heading is None:
        return text, False, ""
    return text[: heading.start()].strip(), True, text[heading.end() :].strip()


def parse_principles(text: str, limit: int = 12) -> tuple[Principle, ...]:
    """Return the principles of a list, one per item; `(Weight: 40%)`, `weight: 0.4` and the like are weights.

    Duplicates are dropped, and items after the first `limit`: small models repeat themselves.
    """
    items: list[str] = []
    listed = takewhile(lambda line: not line.lstrip().startswith("##"), text.splitlines())
    for line in filter(str.strip, listed):
        if _ITEM.match(line) or not items:
            items.append(_ITEM.sub("", line).strip())
        else:
            items[-1] += " " + line.strip()
    unique = {each.text: each for item in items if (each := _principle(item)) is not None}
    return tuple(unique.values())[:limit]


def _principle(item: str) -> Principle | None:
    weight = _WEIGHT.search(item)
    text = _WEIGHT.sub("", item).replace("**", "").strip(" ,;:-")
    if not re.search(r"[^\W\d_]", text):
        return None
    value = float(weight[1]) / (100 if weight[2] or float(weight[1]) > 1 else 1) if weight else None
    return Principle(re.sub(r"\s+", " ", text), value if value is not None and value <= 1 else None)


def closing_regex(n: int, scale: Scale) -> str:
    r"""Return the regex of what may follow the profile's closing: n whole numbers of the scale, then `}`."""
    number = "(" + "|".join(str(x) for x in range(scale.max, scale.min - 1, -1)) + ")"
    return ", ".join([number] * n) + r"\}"


def before_closing(text: str) -> str:
    """Return the completion up to where its scores belong, without a half-written score line."""
    return _TRAILING_LABEL.sub("", _HALF_BOX.sub("", text)).rstrip()
