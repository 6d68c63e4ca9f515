"""Statistics of the principles that the judge writes itself, over many verdicts, to make drift visible.

A sample *states* a principle if it wrote it or, in mode "query", if it judged by it. Principles written by
people are not counted (mode "fixed", and a constitution that a sample repeats).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest

from grm_service.judging.vote import top
from grm_service.principles.lint import Rule, is_ungrounded, lint, query_content, specific_words
from grm_service.principles.query_kind import QueryKind, kind_of
from grm_service.principles.wording import MAX_CHARS, normalise
from grm_service.types import Principle, PrincipleMode, Sample, Verdict

MAX_GROUPS = 20_000
"""Maximum number of groups counted at once. Beyond it the rarer half is dropped, to bound memory."""
UNGROUNDED_SHARE = 0.5
"""A principle is flagged as ungrounded if it is unrelated to more than this share of its queries."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One principle with its near-identical wordings merged; `text` is the first wording.

    `count` samples stated it, a `share` (0..1) of all, on these `kinds` of query. `weight` is the mean of the
    stated weights, None without any. `wins` samples ranked the verdict's best response on top; `win_rate` is
    their share of the samples that could win: counted, with a single top, in a verdict with a single best of
    several responses; None without any. `flags` are the lint rules that the text breaks, compared with the
    more frequent principles, plus "ungrounded" if it is unrelated to most of its queries. `unsound` is the
    number of reviews that called it unsound.
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
    """The most frequent principles, and the numbers of verdicts and readable samples behind them."""

    verdicts: int
    samples: int
    principles: tuple[Observed, ...]


@dataclass(slots=True)
class _PrincipleGroup:
    """The counts of one principle."""

    text: str
    specific: frozenset[str]
    count: int = 0
    weights: int = 0
    weight: float = 0.0
    rated: int = 0
    wins: int = 0
    checked: int = 0
    ungrounded: int = 0
    kinds: Counter[QueryKind] = field(default_factory=Counter)

    def add(
        self, weight: float | None, kind: QueryKind, query_words: frozenset[str] | None, won: bool | None
    ) -> None:
        """Count a sample that stated the principle, for a query of this kind and with these content words."""
        self.count += 1
        self.kinds[kind] += 1
        if weight is not None:
            self.weights += 1
            self.weight += weight
        if query_words is not None:
            self.checked += 1
            self.ungrounded += is_ungrounded(self.specific, query_words)
        if won is not None:
            self.rated += 1
            self.wins += won


def observe(
    judged: Iterable[tuple[str, PrincipleMode, Verdict]],
    unsound: Mapping[str, int] | None = None,
    limit: int = 100,
) -> Observations:
    """Return the `limit` most frequent self-written principles of verdicts, from (query, mode, verdict).

    `unsound` counts, by normalised text, the reviews that called a principle unsound. Iterates once, and
    holds at most MAX_GROUPS groups in memory.
    """
    groups: dict[str, _PrincipleGroup] = {}
    verdicts = samples = 0
    for query, mode, verdict in judged:
        if mode == "fixed":
            continue
        verdicts += 1
        kind, query_words = kind_of(query), query_content(query)
        for sample, stated in _stated(mode, verdict):
            samples += 1
            won = _won(sample, verdict)
            for key, principle in stated.items():
                if key not in groups:
                    groups[key] = _PrincipleGroup(principle.text[:MAX_CHARS], specific_words(principle.text))
                groups[key].add(principle.weight, kind, query_words, won)
        if len(groups) > MAX_GROUPS:
            groups = dict(_most_frequent(groups, MAX_GROUPS // 2))
    frequent = _most_frequent(groups, limit)
    flagged = zip(frequent, _flags([group for _, group in frequent]), strict=True)
    return Observations(
        verdicts,
        samples,
        tuple(
            _observed(group, samples, flags, (unsound or {}).get(key, 0)) for (key, group), flags in flagged
        ),
    )


def _stated(mode: PrincipleMode, verdict: Verdict) -> Iterator[tuple[Sample, dict[str, Principle]]]:
    """Yield each readable sample with the principles that it stated, by normalised text."""
    in_prompt = _keyed(verdict.principles)
    for sample in verdict.samples:
        if sample.critique is None:
            continue
        if mode == "query":
            yield sample, in_prompt
        else:
            own = _keyed(sample.critique.principles)
            yield sample, {key: own[key] for key in own if key not in in_prompt}


def _keyed(principles: Iterable[Principle]) -> dict[str, Principle]:
    by_key: dict[str, Principle] = {}
    for principle in principles:
        if key := normalise(principle.text):
            by_key.setdefault(key, principle)
    return by_key


def _won(sample: Sample, verdict: Verdict) -> bool | None:
    """Return whether a sample chose the verdict's best; None after a tie, or for a single response."""
    best, scores = verdict.vote.best, sample.scores
    if not sample.counted or scores is None or best is None or scores[best] is None or len(scores) < 2:
        return None
    chosen = top(scores)
    return chosen[0] == best if len(chosen) == 1 else None


def _most_frequent(groups: Mapping[str, _PrincipleGroup], limit: int) -> list[tuple[str, _PrincipleGroup]]:
    return nlargest(limit, groups.items(), key=lambda item: item[1].count)


def _flags(groups: Sequence[_PrincipleGroup]) -> Iterator[tuple[Rule, ...]]:
    for group, findings in zip(groups, lint([group.text for group in groups]), strict=True):
        ungrounded = group.ungrounded > UNGROUNDED_SHARE * group.checked
        yield (*(finding.rule for finding in findings), *(("ungrounded",) if ungrounded else ()))


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
