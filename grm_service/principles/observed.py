"""What judges write as their own principles, grouped over many verdicts, so that a drift shows.

A principle is *stated* by a sample that wrote it and, where principles were written once for the query, by
every sample that judged by them. What people gave (mode "fixed", and a constitution that a sample repeats) is
not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest

from grm_service.judging.vote import top
from grm_service.principles.lint import Rule, content_of, is_ungrounded, lint, strange
from grm_service.principles.query_kind import QueryKind, kind_of
from grm_service.principles.wording import MAX_CHARS, normalise
from grm_service.types import Principle, PrincipleMode, Sample, Verdict

KEPT = 20_000
"""So many groups are counted at once; beyond, the rarer half is forgotten, and begins anew when it comes."""
MOSTLY = 0.5
"""The share of its queries beyond which a principle that has nothing to do with them is flagged."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One principle in all its near-identical wordings; `text` is the one that came first.

    `count` samples stated it, a `share` of all, on these `kinds` of query. `weight` is the mean where any
    gave one. `win_rate` is over the samples that stated it and can have won: counted, with one top, in a
    verdict with a best among several; None where there are none. `wins` of them had that best as their top.
    `flags` are the rules of core.lint that the text breaks beside the more frequent ones, and "ungrounded"
    where most of its queries spoke of something else. `unsound` reviewers said that it is unsound.
    """

    text: str
    count: int
    share: float
    weight: float | None
    wins: int
    win_rate: float | None
    kinds: Mapping[QueryKind, int]
    flags: tuple[Rule, ...]
    unsound: int


@dataclass(frozen=True, slots=True)
class Observations:
    """The most frequent principles, with the verdicts and readable samples that they were counted over."""

    verdicts: int
    samples: int
    principles: tuple[Observed, ...]


@dataclass(slots=True)
class _PrincipleGroup:
    """What is counted of one principle."""

    text: str
    strange: frozenset[str]
    count: int = 0
    weights: int = 0
    weight: float = 0.0
    rated: int = 0
    wins: int = 0
    looked: int = 0
    ungrounded: int = 0
    kinds: Counter[QueryKind] = field(default_factory=Counter)

    def add(
        self, weight: float | None, kind: QueryKind, about: frozenset[str] | None, won: bool | None
    ) -> None:
        """One more sample stated it, on a query of that kind and content, and chose the best or did not."""
        self.count += 1
        self.kinds[kind] += 1
        if weight is not None:
            self.weights += 1
            self.weight += weight
        if about is not None:
            self.looked += 1
            self.ungrounded += is_ungrounded(self.strange, about)
        if won is not None:
            self.rated += 1
            self.wins += won


def observe(
    judged: Iterable[tuple[str, PrincipleMode, Verdict]],
    unsound: Mapping[str, int] | None = None,
    most: int = 100,
) -> Observations:
    """The `most` frequent self-written principles of verdicts, each given with its query's text and its mode.

    `unsound` has, by normalised text, how many reviewers called a principle unsound. Reads the verdicts once
    and keeps counts of at most KEPT groups.
    """
    groups: dict[str, _PrincipleGroup] = {}
    verdicts = samples = 0
    for query, mode, verdict in judged:
        if mode == "fixed":
            continue
        verdicts += 1
        kind, about = kind_of(query), content_of(query)
        for sample, stated in _stated(mode, verdict):
            samples += 1
            won = _won(sample, verdict)
            for key, principle in stated.items():
                if key not in groups:
                    groups[key] = _PrincipleGroup(principle.text[:MAX_CHARS], strange(principle.text))
                groups[key].add(principle.weight, kind, about, won)
        if len(groups) > KEPT:
            groups = dict(_most_frequent(groups, KEPT // 2))
    top = _most_frequent(groups, most)
    found = zip(top, _flags([group for _, group in top]), strict=True)
    return Observations(
        verdicts,
        samples,
        tuple(_observed(group, samples, flags, (unsound or {}).get(key, 0)) for (key, group), flags in found),
    )


def _stated(mode: PrincipleMode, verdict: Verdict) -> Iterator[tuple[Sample, dict[str, Principle]]]:
    """The readable samples, each with the principles that it stated, by normalised text."""
    given = _keyed(verdict.principles)
    for sample in verdict.samples:
        if sample.critique is None:
            continue
        if mode == "query":
            yield sample, given
        else:
            own = _keyed(sample.critique.principles)
            yield sample, {key: own[key] for key in own if key not in given}


def _keyed(principles: Iterable[Principle]) -> dict[str, Principle]:
    found: dict[str, Principle] = {}
    for principle in principles:
        if key := normalise(principle.text):
            found.setdefault(key, principle)
    return found


def _won(sample: Sample, verdict: Verdict) -> bool | None:
    """Whether a sample chose the verdict's best; None where either chose none or there was no choice."""
    best, scores = verdict.vote.best, sample.scores
    if not sample.counted or scores is None or best is None or scores[best] is None or len(scores) < 2:
        return None
    chosen = top(scores)
    return chosen[0] == best if len(chosen) == 1 else None


def _most_frequent(groups: Mapping[str, _PrincipleGroup], most: int) -> list[tuple[str, _PrincipleGroup]]:
    return nlargest(most, groups.items(), key=lambda item: item[1].count)


def _flags(groups: Sequence[_PrincipleGroup]) -> Iterator[tuple[Rule, ...]]:
    for group, findings in zip(groups, lint([group.text for group in groups]), strict=True):
        strays = group.ungrounded > MOSTLY * group.looked
        yield (*(finding.rule for finding in findings), *(("ungrounded",) if strays else ()))


def _observed(group: _PrincipleGroup, samples: int, flags: tuple[Rule, ...], unsound: int) -> Observed:
    return Observed(
        text=group.text,
        count=group.count,
        share=group.count / samples,
        weight=group.weight / group.weights if group.weights else None,
        wins=group.wins,
        win_rate=group.wins / group.rated if group.rated else None,
        kinds=dict(group.kinds),
        flags=flags,
        unsound=unsound,
    )
