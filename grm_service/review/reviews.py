"""Reviews of verdicts by people: browse, queue, record, export."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Row

from grm_service.audit import entry
from grm_service.audit.queries import Queries, Search
from grm_service.audit.records import Decision, Record, Review, as_written
from grm_service.audit.summary import Summary, read_summary
from grm_service.audit.trail import Trail
from grm_service.callers import Caller
from grm_service.errors import BadTask, UnknownVerdict
from grm_service.principles.observed import Observations, observe
from grm_service.review.agreement import AgreementStats, RatedPair, agreement_stats, reviewed_top, top

MAX_REVIEWS = 1000
"""Most reviews of one verdict."""


@dataclass(frozen=True, slots=True)
class ReviewContent:
    """The content of a review as the reviewer submits it; see `audit.records.Review` for the fields."""

    reviewer: str
    decision: Decision
    ranking: tuple[int, ...] | None = None
    scores: tuple[float, ...] | None = None
    principle: str | None = None
    note: str = ""

    def check(self, responses: int) -> None:
        """Raise BadTask if the fields do not fit the decision, or the number of responses."""
        filled = [name for name in ("ranking", "scores", "principle") if getattr(self, name) is not None]
        match self.decision:
            case "agree" if filled:
                raise BadTask(f"decision 'agree' takes no {filled[0]}: use 'overrule' or 'unsound_principle'")
            case "overrule" if filled not in (["ranking"], ["scores"]):
                raise BadTask("decision 'overrule' needs the right ranking or the right scores, one of them")
            case "unsound_principle" if filled != ["principle"]:
                raise BadTask("decision 'unsound_principle' needs the principle's text and nothing else")
        values = self.scores if self.ranking is None else self.ranking
        if values is not None and len(values) != responses:
            raise BadTask(f"give one number for each of the {responses} responses, in their order")


@dataclass(frozen=True, slots=True)
class ListedVerdict:
    """A verdict of the trail as lists show it: its columns, its summary and the number of its `reviews`."""

    seq: int
    id: str
    created: datetime
    caller: str
    profile: str
    status: Literal["ok", "partial"]
    worth: float
    reviews: int
    summary: Summary


@dataclass(frozen=True, slots=True)
class StoredVerdict:
    """A verdict in the trail, with its seq and its hash.

    `has_text` is false if the verdict was stored with hashes in place of its texts.
    """

    seq: int
    hash: str
    record: Record
    has_text: bool


class VerdictArchive:
    """The stored verdicts of an audit trail and their reviews.

    Auditors see all verdicts, other callers only their own. All methods may raise AuditUnavailable and
    ReadTooLong; all but `add_review` block while they read the database. Only `find` and `preference` hold a
    whole verdict in memory, and `observed_principles` a few at once.
    """

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self._queries = Queries(trail.store.database)

    def browse(self, caller: Caller, search: Search) -> list[ListedVerdict]:
        """Return the caller's verdicts, newest first."""
        return [_listed(row) for row in self._queries.verdicts(_restrict(caller, search))]

    def listed(self, caller: Caller, id_: str) -> ListedVerdict:
        """Return one verdict as lists show it. Raises UnknownVerdict."""
        for verdict in self.browse(caller, Search(id=id_)):
            return verdict
        raise _unknown(id_)

    def queue(self, caller: Caller, search: Search) -> list[ListedVerdict]:
        """Return the verdicts without a review that have reasons for one, the highest `worth` first."""
        search = replace(_restrict(caller, search), reviewed=False)
        return [_listed(row) for row in self._queries.queue(search)]

    def find(self, caller: Caller, id_: str) -> tuple[StoredVerdict, list[Review]]:
        """Return one verdict and its reviews, oldest first. Raises UnknownVerdict."""
        rows = list(self._queries.bodies(_restrict(caller, Search(id=id_))))
        if not rows:
            raise _unknown(id_)
        reviews = [entry.to_review(body) for body in self._queries.reviews(id_)]
        return StoredVerdict(rows[0].seq, rows[0].hash, *entry.to_record_with_text(rows[0].body)), reviews

    async def add_review(self, caller: Caller, verdict: ListedVerdict, content: ReviewContent) -> Review:
        """Append a caller's review of a verdict that it sees to the trail; the verdict stays unchanged.

        Raises BadTask if the content does not fit the verdict, or if it has MAX_REVIEWS reviews.
        """
        content.check(verdict.summary.responses)
        if verdict.reviews >= MAX_REVIEWS:
            raise BadTask(f"this verdict has {verdict.reviews} reviews, the most that a verdict may have")
        review = Review(
            id="rv_" + uuid.uuid4().hex,
            verdict=verdict.id,
            created=datetime.now(UTC),
            caller=caller.name,
            reviewer=content.reviewer,
            decision=content.decision,
            ranking=content.ranking,
            scores=content.scores,
            principle=content.principle,
            note=content.note,
        )
        await self._trail.append_review(review, verdict.caller)
        return review

    def agreement(self, caller: Caller, profile: str | None) -> AgreementStats:
        """Return the agreement between reviewers and the judge, by the latest review of each reviewer.

        A reviewer is a name under an API key, so that no other key can replace a review.
        """
        latest: dict[tuple[str, str, str], RatedPair | None] = {}
        for row in self._queries.reviewed(_restrict(caller, Search(profile=profile))):
            review = entry.to_review(row.body)
            pair = _rated_pair(row.profile, read_summary(row.summary), review)
            latest[review.verdict, review.caller, review.reviewer] = pair
        return agreement_stats([pair for pair in latest.values() if pair is not None])

    def last_reviews(self, caller: Caller) -> list[tuple[int, int]]:
        """Return the seqs of the last review of each verdict and of that verdict, for `preference`."""
        return self._queries.last_reviews(_restrict(caller, Search()))

    def preference(self, review_seq: int, verdict_seq: int) -> dict[str, Any] | None:
        """Return a reviewed verdict as an item of preference data.

        `preferred` is an index, or None for a tie; `scores` are the reviewer's. None if the review does not
        rate the responses, the verdict was stored without texts, or retention removed it.
        """
        review_body, verdict_body = self._queries.body(review_seq), self._queries.body(verdict_seq)
        if review_body is None or verdict_body is None:
            return None
        review = entry.to_review(review_body)
        record, has_text = entry.to_record_with_text(verdict_body)
        choice = reviewed_top(record.verdict.vote.best, review)
        return _preference(record, review, choice) if has_text and choice is not None else None

    def observed_principles(self, caller: Caller, limit: int, profile: str | None) -> Observations:
        """Return the principles that the judge wrote itself in the caller's last `limit` verdicts.

        Skips verdicts that were stored without texts.
        """
        search = _restrict(caller, Search(limit=limit, profile=profile))
        stored = (entry.to_record_with_text(row.body) for row in self._queries.bodies(search))
        judged = (
            (record.task.messages[-1].content, record.task.options.principles.mode, record.verdict)
            for record, has_text in stored
            if has_text
        )
        return observe(judged, self._trail.unsound(search.caller))


def _restrict(caller: Caller, search: Search) -> Search:
    return search if caller.auditor else replace(search, caller=caller.name)


def _unknown(id_: str) -> UnknownVerdict:
    # Another caller's verdict is reported as unknown, so that ids do not leak.
    return UnknownVerdict(f"no verdict {id_!r} of yours in the audit trail; GET /v1/verdicts lists yours")


def _listed(row: Row[Any]) -> ListedVerdict:
    with as_written():
        return ListedVerdict(
            seq=row.seq,
            id=row.id,
            created=datetime.fromisoformat(row.created),
            caller=row.caller,
            profile=row.profile,
            status=row.status,
            worth=row.worth,
            reviews=row.reviews,
            summary=read_summary(row.summary),
        )


def _rated_pair(profile: str, summary: Summary, review: Review) -> RatedPair | None:
    """Return the choices of judge and reviewer; None if the review does not rate the responses."""
    choice = reviewed_top(summary.best, review)
    if choice is None:
        return None
    day = review.created.date()
    return RatedPair((profile, summary.principles), day - timedelta(day.weekday()), top(summary.best), choice)


def _preference(record: Record, review: Review, choice: str) -> dict[str, Any]:
    tie = choice == "tie"
    return {
        "id": record.id,
        "source": "review",
        "subset": record.verdict.profile,
        "messages": [{"role": turn.role, "content": turn.content} for turn in record.task.messages],
        "responses": list(record.task.responses),
        "preferred": None if tie or len(record.task.responses) == 1 else int(choice),
        "scores": None if review.scores is None else list(review.scores),
        "meta": {
            "label_type": "human",
            "tie": tie,
            "caller": review.caller,
            "reviewer": review.reviewer,
            "review": review.id,
            "decision": review.decision,
            "judge": top(record.verdict.vote.best),
        },
    }
