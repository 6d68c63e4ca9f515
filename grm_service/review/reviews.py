"""What people see of the trail and what they say to it: queue, reviews, agreement, preferences."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Row

from grm_service.audit import entry
from grm_service.audit.records import Decision, Record, Review
from grm_service.audit.store import Search, Store
from grm_service.audit.trail import Trail
from grm_service.errors import BadTask, UnknownVerdict
from grm_service.principles.observed import Observations, observe
from grm_service.review.reasons import kappa, reviewed_top, top
from grm_service.types import Caller, PrincipleSpec


@dataclass(frozen=True, slots=True)
class StoredVerdict:
    """A verdict as it stands in the trail: its place, its hash, the number of its reviews."""

    seq: int
    hash: str
    record: Record
    reviews: int


@dataclass(frozen=True, slots=True)
class ReviewContent:
    """What a reviewer says of the question and the verdict, see Review."""

    reviewer: str
    decision: Decision
    ranking: tuple[int, ...] | None = None
    scores: tuple[float, ...] | None = None
    principle: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many of the reviewers chose what the judge had chosen, and kappa with its interval."""

    reviews: int
    agreed: int
    kappa: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class AgreementStats:
    """Agreement by profile and kind of principles, and by week (its Monday)."""

    groups: tuple[tuple[str, str, Agreement], ...]
    weeks: tuple[tuple[date, Agreement], ...]


def browse(store: Store, caller: Caller, search: Search) -> list[StoredVerdict]:
    """Verdicts that the caller may see, newest first."""
    return [_kept(row) for row in store.verdicts(_of(caller, search))]


def queue(store: Store, caller: Caller, search: Search) -> list[StoredVerdict]:
    """Verdicts most worth a look that nobody has reviewed."""
    return [_kept(row) for row in store.queue(replace(_of(caller, search), reviewed=False))]


def look(store: Store, caller: Caller, id_: str) -> tuple[StoredVerdict, list[Review]]:
    """One verdict and what was said of it. Raises UnknownVerdict."""
    row = store.find(id_)
    if row is None or row.kind != "verdict" or not (caller.auditor or row.caller == caller.name):
        raise UnknownVerdict(id_)
    reviews = [entry.to_review(found.body) for found in store.reviews(id_)]
    return StoredVerdict(row.seq, row.hash, entry.to_record(row.body), len(reviews)), reviews


async def review(trail: Trail, caller: Caller, kept: StoredVerdict, opinion: ReviewContent) -> Review:
    """Adds a review to the trail; the verdict stays. Raises BadTask where the opinion does not fit it."""
    _check(opinion, len(kept.record.task.responses))
    made = Review(
        id="rv_" + uuid.uuid4().hex,
        verdict=kept.record.id,
        created=datetime.now(UTC),
        caller=caller.name,
        reviewer=opinion.reviewer,
        decision=opinion.decision,
        ranking=opinion.ranking,
        scores=opinion.scores,
        principle=opinion.principle,
        note=opinion.note,
    )
    await trail.keep_review(made)
    return made


def stats(store: Store, caller: Caller, profile: str | None) -> AgreementStats:
    """Over the last word of every reviewer on every verdict."""
    rated = []
    for body, said in _last_words(store, _of(caller, Search(profile=profile))):
        record = entry.to_record(body)
        theirs = reviewed_top(record.verdict.vote, said)
        if theirs is not None:
            kind = f"{record.verdict.profile}\n{principles(record.task.options.principles)}"
            day = said.created.date()
            rated.append((kind, day - timedelta(day.weekday()), (top(record.verdict.vote), theirs)))
    groups = [(*kind.split("\n"), found) for kind, found in _by(0, rated)]
    return AgreementStats(tuple(groups), tuple(_by(1, rated)))


def preferences(store: Store, caller: Caller) -> Iterator[dict[str, Any]]:
    """Reviewed verdicts as preference data, one item each, by the last word on it.

    `preferred` is an index, or null for a tie; `scores` are the reviewer's. What a review says nothing of
    the responses is left out, and so is what was kept without texts.
    """
    latest = {said.verdict: (body, said) for body, said in _last_words(store, _of(caller, Search()))}
    for body, said in latest.values():
        record = entry.to_record(body)
        choice = reviewed_top(record.verdict.vote, said)
        if choice is not None and entry.keeps_text(body):
            yield _preference(record, said, choice)


def observed(trail: Trail, caller: Caller, most: int, profile: str | None) -> Observations:
    """The principles that the judge wrote itself, over the last `most` verdicts that were kept with texts."""
    rows = trail.store.verdicts(_of(caller, Search(limit=most, profile=profile)))
    records = [entry.to_record(row.body) for row in rows if entry.keeps_text(row.body)]
    judged = (
        (made.task.messages[-1].content, made.task.options.principles.mode, made.verdict) for made in records
    )
    return observe(judged, trail.unsound)


def principles(spec: PrincipleSpec) -> str:
    """Which principles a task was judged by, in a word: `self`, `fixed:code`, `query:own` ..."""
    given = spec.set_name or ("own" if spec.items else None)
    return f"{spec.mode}:{given}" if given else spec.mode


def _of(caller: Caller, search: Search) -> Search:
    return search if caller.auditor else replace(search, caller=caller.name)


def _kept(row: Row[Any]) -> StoredVerdict:
    return StoredVerdict(row.seq, row.hash, entry.to_record(row.body), row.reviews)


def _last_words(store: Store, search: Search) -> Iterable[tuple[str, Review]]:
    """The body of each reviewed verdict with what each of its reviewers said last, in the order of saying.

    A reviewer is a name under a key: nobody else's key speaks for them.
    """
    latest: dict[tuple[str, str, str], tuple[str, Review]] = {}
    for review_body, verdict_body in store.reviewed(search):
        said = entry.to_review(review_body)
        who = said.verdict, said.caller, said.reviewer
        latest.pop(who, None)
        latest[who] = verdict_body, said
    return latest.values()


def _check(opinion: ReviewContent, n: int) -> None:
    given = [name for name in ("ranking", "scores", "principle") if getattr(opinion, name) is not None]
    match opinion.decision:
        case "agree" if given:
            raise BadTask(f"decision 'agree' takes no {given[0]}: use 'overrule' or 'unsound_principle'")
        case "overrule" if given not in (["ranking"], ["scores"]):
            raise BadTask("decision 'overrule' needs the right ranking or the right scores, one of them")
        case "unsound_principle" if given != ["principle"]:
            raise BadTask("decision 'unsound_principle' needs the principle's text and nothing else")
    values = opinion.scores if opinion.ranking is None else opinion.ranking
    if values is not None and len(values) != n:
        raise BadTask(f"there must be one number for each of the {n} responses, in their order")


def _by(place: int, rated: list[tuple[Any, ...]]) -> list[tuple[Any, Agreement]]:
    found = []
    for label, group in groupby(sorted(rated, key=itemgetter(place)), key=itemgetter(place)):
        pairs = [pair for *_, pair in group]
        agreed = sum(ours == theirs for ours, theirs in pairs)
        value, interval = kappa(pairs) or (None, None)
        found.append((label, Agreement(len(pairs), agreed, value, interval)))
    return found


def _preference(record: Record, said: Review, choice: str) -> dict[str, Any]:
    tie = choice == "tie"
    return {
        "id": record.id,
        "source": "review",
        "subset": record.verdict.profile,
        "messages": [{"role": turn.role, "content": turn.content} for turn in record.task.messages],
        "responses": list(record.task.responses),
        "preferred": None if tie or len(record.task.responses) == 1 else int(choice),
        "scores": None if said.scores is None else list(said.scores),
        "meta": {
            "label_type": "human",
            "tie": tie,
            "caller": said.caller,
            "reviewer": said.reviewer,
            "review": said.id,
            "decision": said.decision,
            "judge": top(record.verdict.vote),
        },
    }
