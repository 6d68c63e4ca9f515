"""Reviews of verdicts by people: browse, queue, record, export."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row

from grm_service.audit import entry
from grm_service.audit.queries import Queries, Search
from grm_service.audit.records import Decision, Record, Review
from grm_service.audit.trail import Trail
from grm_service.callers import Caller
from grm_service.errors import BadTask, UnknownVerdict
from grm_service.principles.observed import Observations, observe
from grm_service.review.agreement import AgreementStats, RatedPair, agreement_stats, reviewed_top, top
from grm_service.types import PrincipleSpec


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
class StoredVerdict:
    """A verdict in the trail: its seq, its hash and the number of its reviews.

    `has_text` is false if the verdict was stored with hashes in place of its texts.
    """

    seq: int
    hash: str
    record: Record
    reviews: int
    has_text: bool


class VerdictArchive:
    """The stored verdicts of an audit trail and their reviews.

    Auditors see all verdicts, other callers only their own. All methods may raise AuditUnavailable; all but
    `add_review` block while they read the database.
    """

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self._queries = Queries(trail.store.database)

    def browse(self, caller: Caller, search: Search) -> list[StoredVerdict]:
        """Return the caller's verdicts, newest first."""
        return [_stored(row) for row in self._queries.verdicts(_restrict(caller, search))]

    def queue(self, caller: Caller, search: Search) -> list[StoredVerdict]:
        """Return the verdicts without a review that have reasons for one, the highest `worth` first."""
        search = replace(_restrict(caller, search), reviewed=False)
        return [_stored(row) for row in self._queries.queue(search)]

    def find(self, caller: Caller, id_: str) -> tuple[StoredVerdict, list[Review]]:
        """Return one verdict and its reviews, oldest first. Raises UnknownVerdict."""
        # Another caller's verdict is reported as unknown, so that ids do not leak.
        row = self._queries.find(id_)
        if row is None or row.kind != "verdict" or not (caller.auditor or row.caller == caller.name):
            raise UnknownVerdict(
                f"no verdict {id_!r} of yours in the audit trail; GET /v1/verdicts lists yours"
            )
        reviews = [entry.to_review(review.body) for review in self._queries.reviews(id_)]
        return _stored(row, len(reviews)), reviews

    async def add_review(self, caller: Caller, id_: str, content: ReviewContent) -> Review:
        """Append a review to the trail; the verdict stays unchanged.

        Raises UnknownVerdict, and BadTask if the content does not fit the verdict.
        """
        verdict, _ = await asyncio.to_thread(self.find, caller, id_)
        content.check(len(verdict.record.task.responses))
        review = Review(
            id="rv_" + uuid.uuid4().hex,
            verdict=verdict.record.id,
            created=datetime.now(UTC),
            caller=caller.name,
            reviewer=content.reviewer,
            decision=content.decision,
            ranking=content.ranking,
            scores=content.scores,
            principle=content.principle,
            note=content.note,
        )
        await self._trail.append_review(review)
        return review

    def agreement(self, caller: Caller, profile: str | None) -> AgreementStats:
        """Return the agreement between reviewers and the judge, by the latest review of each reviewer."""
        search = _restrict(caller, Search(profile=profile))
        pairs = (_rated_pair(body, review) for body, review in self._latest_reviews(search))
        return agreement_stats([pair for pair in pairs if pair is not None])

    def preferences(self, caller: Caller) -> Iterator[dict[str, Any]]:
        """Yield reviewed verdicts as preference data, one item per verdict, by its latest review.

        `preferred` is an index, or None for a tie; `scores` are the reviewer's. Skips reviews that do not
        rate the responses, and verdicts that were stored without texts.
        """
        reviewed = self._latest_reviews(_restrict(caller, Search()))
        latest = {review.verdict: (body, review) for body, review in reviewed}
        for body, review in latest.values():
            record = entry.to_record(body)
            choice = reviewed_top(record.verdict.vote, review)
            if choice is not None and entry.has_text(body):
                yield _preference(record, review, choice)

    def observed_principles(self, caller: Caller, limit: int, profile: str | None) -> Observations:
        """Return the principles that the judge wrote itself in the caller's last `limit` verdicts.

        Skips verdicts that were stored without texts.
        """
        stored = self.browse(caller, Search(limit=limit, profile=profile))
        records = (each.record for each in stored if each.has_text)
        judged = (
            (record.task.messages[-1].content, record.task.options.principles.mode, record.verdict)
            for record in records
        )
        return observe(judged, self._trail.unsound)

    def _latest_reviews(self, search: Search) -> Iterable[tuple[str, Review]]:
        """Return the latest review of each reviewer on each verdict, with the verdict's body, oldest first.

        A reviewer is a name under an API key, so that no other key can replace a review.
        """
        latest: dict[tuple[str, str, str], tuple[str, Review]] = {}
        for review_body, verdict_body in self._queries.reviewed(search):
            review = entry.to_review(review_body)
            key = review.verdict, review.caller, review.reviewer
            latest.pop(key, None)  # a newer review moves to the end
            latest[key] = verdict_body, review
        return latest.values()


def principles_label(spec: PrincipleSpec) -> str:
    """Return a short name of the principles of a task: `self`, `fixed:code`, `query:own` ..."""
    source = spec.set_name or ("own" if spec.items else None)
    return f"{spec.mode}:{source}" if source else spec.mode


def _restrict(caller: Caller, search: Search) -> Search:
    return search if caller.auditor else replace(search, caller=caller.name)


def _stored(row: Row[Any], reviews: int | None = None) -> StoredVerdict:
    record, has_text = entry.to_record_with_text(row.body)
    return StoredVerdict(row.seq, row.hash, record, row.reviews if reviews is None else reviews, has_text)


def _rated_pair(body: str, review: Review) -> RatedPair | None:
    """Return the choices of judge and reviewer; None if the review does not rate the responses."""
    record = entry.to_record(body)
    choice = reviewed_top(record.verdict.vote, review)
    if choice is None:
        return None
    group = record.verdict.profile, principles_label(record.task.options.principles)
    day = review.created.date()
    return RatedPair(group, day - timedelta(day.weekday()), top(record.verdict.vote), choice)


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
            "judge": top(record.verdict.vote),
        },
    }
