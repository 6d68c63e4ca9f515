r"""The check of a profile's format: an answer that keeps to it can be parsed.

Without it, a profile whose labels or box the parser cannot read would lose every sample.
"""

from __future__ import annotations

from grm_service.judging import parse
from grm_service.profiles.profile import PLACEHOLDER, Profile, placeholders
from grm_service.types import Critique, Principle

Fault = tuple[tuple[str, str], str]
"""The path of a field, and what is wrong with it."""

_CRITERION, _ANALYSIS = Principle("Right", 1.0), "Both have it right"
_OUTSIDE = "{{boxed}} must be inside a box of its own, \\boxed{{{boxed}}}: scores are read from there only"


def format_fault(profile: Profile) -> Fault | None:
    """Return the first field that makes answers to one or two responses unreadable; None if there is none."""
    for n in (1, 2):
        if fault := _template_fault(profile, n) or _critique_fault(profile, n):
            return fault
    return None


def _template_fault(profile: Profile, n: int) -> Fault | None:
    ask, judge = profile.closing.ask, profile.prompt.judge
    if "\\boxed{" not in ask:
        return (
            "closing",
            "ask",
        ), "must request the scores in \\boxed{{{boxed}}}: they are read from there only"
    if "boxed" in placeholders(ask) and not _has_box(ask, n, profile):
        return ("closing", "ask"), _OUTSIDE
    if "boxed" in placeholders(judge) and not _has_box(judge, n, profile):
        return ("prompt", "judge"), _OUTSIDE
    return None


def _has_box(template: str, n: int, profile: Profile) -> bool:
    """Return whether a box of the template, with scores in it, can be parsed."""
    filled = PLACEHOLDER.sub(lambda match: _scores(n, profile) if match[1] == "boxed" else "", template)
    boxes = filled.split("\\boxed{")[1:]
    return any(_parsed("\\boxed{" + box, n, profile) is not None for box in boxes)


def _critique_fault(profile: Profile, n: int) -> Fault | None:
    sections = profile.sections
    critique = _parsed(
        f"{sections.criteria}:\n1. {_CRITERION.text} (Weight: 100%)\n"
        f"{sections.analysis}: {_ANALYSIS}{profile.closing.text}{_scores(n, profile)}}}",
        n,
        profile,
    )
    if critique is None:
        return ("closing", "text"), (
            "scores behind it could not be read: begin it with a line break and a short label, such as "
            '"\\n\\nScores: \\\\boxed{"'
        )
    unlike = "a critique with this label could not be split into its sections: choose a label of plain words"
    if critique.principles != (_CRITERION,):
        return ("sections", "criteria"), unlike
    if not critique.analysis.startswith(_ANALYSIS):
        return ("sections", "analysis"), unlike
    return None


def _scores(n: int, profile: Profile) -> str:
    return ", ".join([str(profile.scale.max), str(profile.scale.min)][:n])


def _parsed(text: str, n: int, profile: Profile) -> Critique | None:
    """Return the critique in a text; None if it has no scores."""
    try:
        return parse.parse(text, n, profile)
    except parse.Unreadable:
        return None
