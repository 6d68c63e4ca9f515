"""Rules about the fields of a request that a server refuses: which are left out, renamed or changed.

They are learnt from the server's refusals: a field that a refusal names, in any vendor's wording, is left out
of the next try, and the rule is remembered once that try is accepted. So a refusal that names a field for
another reason, such as one that quotes a caller's text, teaches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from grm_service.engines.base import without_field
from grm_service.types import SYSTEM_ROLES

# Without these a server samples at its own settings. The least important first.
_OPTIONAL = ("repetition_penalty", "min_p", "top_k", "top_p", "seed", "temperature")
# These values mean the same as no field.
_NEUTRAL: Mapping[str, Any] = {"repetition_penalty": 1.0, "min_p": 0.0, "top_k": -1, "top_p": 1.0}
# A refusal in these words is about a value, which other requests need not have.
_ABOUT_VALUE = re.compile(
    r"[<>]|less than|greater|between|\brange|at (?:most|least)|above|below|maximum|minimum|exceed|positive"
    r"|too (?:large|small|long|high|low)",
    re.IGNORECASE,
)
_THINKING_FORBIDDEN = re.compile(r"\benable_thinking\b.{0,40}\bfalse\b")
_ABOUT_ROLES = re.compile(r"\bsystem\b|\broles?\b|developer", re.IGNORECASE)
# Some servers refuse temperature 0. At this one the likeliest token is nearly always drawn.
_LEAST_TEMPERATURE = 0.01
# As in the request, or as in the server's own code: topP, Seed.
_SPELLED = {name: rf"(?<!\w){name.replace('_', '_?')}(?!\w)" for name in ("max_tokens", *_OPTIONAL)}


@dataclass(frozen=True, slots=True)
class FieldRules:
    """What a server's requests look like.

    `dropped` fields are left out. `completion_limit`: the limit is named max_completion_tokens.
    `least_temperature` replaces a lower one. `merges_system`: system text is put in front of the user's turn.
    `forbids_thinking`: enable_thinking is false, which DashScope requires of replies that are no streams.
    """

    dropped: frozenset[str] = frozenset()
    completion_limit: bool = False
    least_temperature: float = 0.0
    merges_system: bool = False
    forbids_thinking: bool = False

    def apply(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request body as the server accepts it."""
        applied = {name: value for name, value in body.items() if name not in self.dropped}
        if self.completion_limit:
            applied["max_completion_tokens"] = applied.pop("max_tokens")
        if "temperature" in applied:
            applied["temperature"] = max(applied["temperature"], self.least_temperature)
        if self.merges_system:
            applied["messages"] = _without_system(applied["messages"])
        if self.forbids_thinking:
            applied["enable_thinking"] = False
        return applied

    def after(self, refusal: str, sent: Mapping[str, Any]) -> FieldRules | None:
        """Return the rules to try after a refusal of the body `sent`, None if it names nothing to change."""
        if not self.forbids_thinking and _THINKING_FORBIDDEN.search(refusal):
            return replace(self, forbids_thinking=True)
        named = _named(refusal, sent)
        about_value = _ABOUT_VALUE.search(refusal) is not None
        if named[:1] == ["max_tokens"] and not about_value:
            return replace(self, completion_limit=True)
        if "temperature" in named and sent["temperature"] == 0:
            return replace(self, least_temperature=_LEAST_TEMPERATURE)
        for name in named:
            if name in _OPTIONAL and (not about_value or sent[name] == _NEUTRAL.get(name)):
                return replace(self, dropped=self.dropped | {name}, least_temperature=0.0)
        has_system = any(message["role"] in SYSTEM_ROLES for message in sent["messages"])
        if has_system and not self.merges_system and _ABOUT_ROLES.search(refusal):
            return replace(self, merges_system=True)
        return None

    def notes(self) -> list[str]:
        """Return what the rules mean for verdicts, for the log."""
        notes = [f"{name} is left out: {without_field(name)}" for name in sorted(self.dropped)]
        if self.completion_limit:
            notes.append("max_tokens is named max_completion_tokens")
        if self.least_temperature:
            notes.append(f"temperature is at least {self.least_temperature}")
        if self.merges_system:
            notes.append("system text is put in front of the user's turn")
        if self.forbids_thinking:
            notes.append("enable_thinking is false")
        return notes


def _named(refusal: str, sent: Mapping[str, Any]) -> list[str]:
    """Return the sent fields that a refusal names, in the order in which to change them."""
    places = {
        name: match.start()
        for name in ("max_tokens", *_OPTIONAL)
        if name in sent and (match := re.search(_SPELLED[name], refusal, re.IGNORECASE))
    }
    if re.search(r"\bboth\b", refusal):  # two fields that exclude each other: leave out the less important
        return [name for name in _OPTIONAL if name in places]
    # Some refusals list the fields that are known behind the one that is not.
    return sorted(places, key=lambda name: places[name])


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages with the system text in front of the first user turn."""
    system = "\n\n".join(each["content"] for each in messages if each["role"] in SYSTEM_ROLES)
    others = [each for each in messages if each["role"] not in SYSTEM_ROLES]
    if not system:
        return others
    first = next((at for at, each in enumerate(others) if each["role"] == "user"), None)
    if first is None:
        return [{"role": "user", "content": system}, *others]
    merged = {**others[first], "content": f"{system}\n\n{others[first]['content']}"}
    return [*others[:first], merged, *others[first + 1 :]]
