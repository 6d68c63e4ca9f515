r"""Parse a completion: principles, analysis and scores, or the reason why it has no scores.

Strict on purpose. The commonly copied function takes the last `\boxed{}` OR any `[...]` and drops what is
not a number, so that `\boxed{8, 9} (see list[0])` becomes [0]. Here the last `\boxed{...}` must be in the
position of an answer, on a line of its own or behind a label (labels.py), and hold exactly n finite numbers
within the scale; anything else is unreadable, with a reason, and never a score. Full-width digits and
punctuation count as ASCII. `[[8, 9]]` and `\boxed {8, 9}` are no scores: a response can contain them.
"""

from __future__ import annotations

import re
from collections import deque
from itertools import islice, takewhile

from grm_service.judging.labels import find_label, half_width
from grm_service.profiles.profile import Profile, Scale
from grm_service.types import Critique, Principle

_BOX = "\\boxed{"
_BETWEEN_BOXES = r"\}[ $]*,[ $]*\\boxed\{"
_BOXED = re.compile(
    r"\\boxed\{("
    rf"[^{{}},;]*(?:{_BETWEEN_BOXES}[^{{}},;]*)+"  # numbers in boxes of their own, side by side
    r"|\\(?:text|textbf|mathrm|mathbf)\{[^{}]*\}"
    r"|[^{}]*)\}"
)
_PLACEHOLDER = re.compile(r"\s*x(?:\s*,\s*x)*\s*")
_HALF_BOX = re.compile(r"\\(b(o(x(e(d(\{[^{}\n]*\}?)?)?)?)?)?)?[\s$*.]*")
# Around the answers of judges that were trained to think, and special tokens that a server does not skip.
_WRAPPER = re.compile(
    r"<(?=[|/a-z])(?:/?(?:final[ _]?)?(?:answer|solution|output|result|verdict|score|rating)s?>|\|\w+\|>)",
    re.IGNORECASE,
)
_SHELL = re.compile(r"\s*(?:\\[a-z]+\{(.*)\}|\[(.*)\]|\((.*)\))\s*")
_DIGITS = re.compile(r"\d{1,2}", re.ASCII)
_NUMBER = re.compile(r"([+-]?\d{1,6}(?:\.\d{1,6})?)[分点점]?", re.ASCII)
_LONGEST_BOX = 4000
"""More characters than the scores of the largest group have."""
_MOST_LINES = 500
"""The most lines that are read as principles; models that loop write more."""
_TO_LAST_WORD = re.compile(r"(?s:.*)[^\W_]")
_SPACES = r" \t\r\u00a0\u202f\u3000"
_ITEM = re.compile(
    r"^\s*(?:(?:\d{1,2}[.)．]|[-*•・])(?:\s+|(?=[^\x00-\x7f\d]|\*\*))"
    r"|(?:\d{1,2}[、）]|[(（]\d{1,2}[)）]|[①-⑳])\s*)++"
)
_WEIGHT = re.compile(
    r"[(\[【]? ?(?:weights?|\b(?:gewicht|gewichtung|poids|pondération|peso|ponderación|вес)"
    r"|权重|權重|比重|占比|重み|重要度|가중치|비중) ?[:=]? ?(\d{1,3}(?:\.\d{1,4})?) ?(%?) ?[)\]】]?",
    re.IGNORECASE,
)


class Unreadable(ValueError):
    """A completion without scores: `no_scores`, `wrong_count`, `not_a_number` or `out_of_scale`."""

    @property
    def reason(self) -> str:
        return str(self.args[0])


def parse(text: str, n: int, profile: Profile) -> Critique:
    """Return the critique in a completion about n responses; scores are in the order of the prompt.

    Principles and analysis are parsed leniently, since they do not count in the vote. Raises Unreadable.
    """
    box = find_box(text, profile)
    scores = _scores(box[1], n, profile.scale)
    criteria, analysis = _sections(_without_label(text[: box.start()], profile).strip(), profile)
    return Critique(parse_principles(criteria), analysis, scores)


def find_box(text: str, profile: Profile) -> re.Match[str]:
    r"""Return the `\boxed{...}` that is a completion's answer; group 1 is its content, in half width.

    It is the last one, except that the prompt's own `\boxed{x, x}`, mentioned in a sentence, does not count.
    Raises Unreadable.
    """
    text = half_width(text)
    boxes = deque(_BOXED.finditer(text), maxlen=2)
    # A later box that is cut off or malformed revises the earlier ones, so none of them counts.
    if not boxes or text.rfind(_BOX) >= boxes[-1].end():
        raise Unreadable("no_scores")
    for box in reversed(boxes):
        if _is_answer(text, box, profile):
            return box
        if not _PLACEHOLDER.fullmatch(box[1]):
            break
    raise Unreadable("no_scores")


def _is_answer(text: str, box: re.Match[str], profile: Profile) -> bool:
    r"""Return False for a quotation, such as a box inside a sentence ("its answer \boxed{4} is right")."""
    line = _WRAPPER.sub(" ", text[: box.start()].rpartition("\n")[2])
    if line.lstrip().startswith(">"):
        return False
    if not re.search(r"\w", line):
        return _BOX not in box[1]
    label = find_label(line, profile)
    if label is None or not label.final:
        return label is not None
    return not re.search(r"\w", _WRAPPER.sub(" ", text[box.end() :]))


def _scores(content: str, n: int, scale: Scale) -> tuple[float, ...]:
    if len(content) > _LONGEST_BOX:
        raise Unreadable("wrong_count")
    content = re.sub(_BETWEEN_BOXES, ",", content)
    if shell := _SHELL.fullmatch(content):
        content = shell[shell.lastindex or 0]
    parts = content.split(";" if ";" in content else ",")
    numbers = [_NUMBER.fullmatch(part.strip()) for part in parts]
    scores = tuple(float(number[1]) for number in numbers if number is not None)
    if len(scores) != len(parts):
        raise Unreadable("not_a_number")
    if len(scores) != n:
        raise Unreadable("wrong_count")
    if not all(scale.min <= x <= scale.max for x in scores):
        raise Unreadable("out_of_scale")
    return scores


def _sections(body: str, profile: Profile) -> tuple[str, str]:
    """Split the text before the scores into criteria and analysis; text without labels is analysis."""
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
    """Partition the text at the first line that begins with the label, whatever its Markdown and brackets."""
    words = re.escape(half_width(label).strip(": \t"))
    pattern = rf"^[{_SPACES}#*【\[]*{words}[{_SPACES}*】\]]*(?::[:\s*]*|$)"
    heading = re.search(pattern, half_width(text), re.IGNORECASE | re.MULTILINE)
    if heading is None:
        return text, False, ""
    return text[: heading.start()].strip(), True, text[heading.end() :].strip()


def parse_principles(text: str, limit: int = 12) -> tuple[Principle, ...]:
    """Return the principles of a list, one per item; `(Weight: 40%)`, `weight: 0.4` and the like are weights.

    Duplicates are dropped, and items after the first `limit`: small models repeat themselves. So is a line
    without a weight before the list, such as "Here are the principles:".
    """
    items: list[list[str]] = []
    listed = takewhile(lambda line: not line.lstrip().startswith("##"), _WRAPPER.sub("", text).splitlines())
    for line in islice(filter(str.strip, listed), _MOST_LINES):
        if _ITEM.match(line) or not items:
            items.append([line])
        else:
            items[-1].append(line)
    before = " ".join(items[0]) if items else ""
    if len(items) > 1 and not _ITEM.match(before) and not _WEIGHT.search(half_width(before)):
        del items[0]
    unique = {
        each.text: each for item in items if (each := _principle(_ITEM.sub("", " ".join(item)))) is not None
    }
    return tuple(unique.values())[:limit]


def _principle(item: str) -> Principle | None:
    text = " ".join(item.split())
    weights = list(_WEIGHT.finditer(half_width(text)))
    starts, ends = [0, *(each.end() for each in weights)], [*(each.start() for each in weights), len(text)]
    text = "".join(text[start:end] for start, end in zip(starts, ends, strict=True))
    text = " ".join(text.replace("**", "").strip(" ,;:-，、；：").split())
    if not re.search(r"[^\W\d_]", text):
        return None
    value = (
        float(weights[0][1]) / (100 if weights[0][2] or float(weights[0][1]) > 1 else 1) if weights else None
    )
    return Principle(text, value if value is not None and value <= 1 else None)


def closing_regex(n: int, scale: Scale, best: int | None = None) -> str:
    r"""Return the regex of what may follow the profile's closing: n whole numbers of the scale, then `}`.

    If the critique names response `best` (from 1) as the best, the scores agree: its score is in the upper
    half of the scale, and the others are in the lower half.
    """
    numbers = [_any_of(scale.min, scale.max)] * n
    if best is not None and best <= n:
        middle = (scale.min + scale.max) // 2
        numbers = [_any_of(scale.min, middle)] * n
        numbers[best - 1] = _any_of(middle + 1, scale.max)
    return ", ".join(numbers) + r"\}"


def critique_regex(n: int, profile: Profile) -> str | None:
    """Return the regex of a critique of n responses that begins with the profile's opening.

    It has criteria, the comparison, a reason and scores that agree with the comparison: models often write
    others. None if the profile has no comparison, or there is nothing to compare.
    """
    if not profile.compares(n):
        return None
    endings = (
        rf"{_literal(profile.best_is(best))}[^\n]+{_literal(profile.closing.text)}"
        + closing_regex(n, profile.scale, best)
        for best in range(1, n + 1)
    )
    return rf"[^\n]*(\n[0-9][^\n]*){{0,4}}({'|'.join(endings)})"


def _any_of(first: int, last: int) -> str:
    return "(" + "|".join(str(x) for x in range(last, first - 1, -1)) + ")"


def _literal(text: str) -> str:
    return re.sub(r"[\\.^$*+?{}\[\]()|]", r"\\\g<0>", text).replace("\n", r"\n")


def before_analysis(text: str, profile: Profile) -> str:
    """Return the part of a critique with scores that stands before its analysis, or else its scores."""
    body = _without_label(text[: find_box(text, profile).start()], profile).rstrip()
    return _cut(body, profile.sections.analysis)[0]


def compared(text: str, profile: Profile) -> tuple[int, int] | None:
    """Return the span of the best response's number in a critique's comparison, None if it has none."""
    if not profile.comparison or (at := text.find(profile.before_best)) < 0:
        return None
    number = _DIGITS.match(text, at + len(profile.before_best))
    return None if number is None else number.span()


def named_best(text: str, profile: Profile) -> int | None:
    """Return the number (from 1) of the response that a critique's comparison names, None if it has none."""
    span = compared(text, profile)
    return (int(text[slice(*span)]) or None) if span else None


def before_closing(text: str, profile: Profile) -> str:
    """Return the completion up to where its scores belong, without a half-written score line."""
    at = text.rfind("\\")
    if at >= 0 and _HALF_BOX.fullmatch(text, at):
        text = text[:at]
    return _without_label(text, profile).rstrip()


def _without_label(text: str, profile: Profile) -> str:
    """Return the text without a label at its end."""
    words = _TO_LAST_WORD.match(text)
    line_at = text.rfind("\n", 0, words.end() if words else 0) + 1
    label = find_label(half_width(text[line_at:].rstrip()), profile)
    return text if label is None else text[: line_at + label.start].rstrip(" \t\n#*$")
