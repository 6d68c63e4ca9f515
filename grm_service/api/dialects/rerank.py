"""Documents ranked for a query, texts scored against one (vLLM, Jina, Cohere, TEI): judged as one group."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from grm_service import chat_templates
from grm_service.api.dialects.adapter import Reward, adapter, tokens
from grm_service.api.dialects.query_options import QueryOptions, Wished
from grm_service.api.problems import JUDGING, ProblemReply, problem_of
from grm_service.api.schemas import Text
from grm_service.concurrency import gather
from grm_service.errors import BadTask, GRMError, Overloaded
from grm_service.types import Message

router = APIRouter(tags=["dialects"])


class Document(BaseModel):
    """A document as an object."""

    text: Text


Documents = Annotated[list[Text | Document], Field(min_length=1, max_length=64)]
Texts = Text | Annotated[list[Text], Field(min_length=1, max_length=64)]


class Rerank(BaseModel):
    """A query with `documents` (vLLM, Jina, Cohere) or `texts` (TEI)."""

    model: Text | None = None
    query: Text
    documents: Documents | None = None
    texts: Documents | None = None
    top_n: Annotated[int, Field(ge=0)] | None = None
    return_documents: bool = True
    return_text: bool = False


class Score(BaseModel):
    """One text or as many as the others (`text_1`), and those that are scored (`text_2`)."""

    model: Text | None = None
    text_1: Texts | None = None
    text_2: Texts | None = None
    data_1: Texts | None = None
    data_2: Texts | None = None
    queries: Texts | None = None
    documents: Texts | None = None
    items: Texts | None = None


class Predict(BaseModel):
    """TEI: a templated conversation, a pair of query and response, or a list of these, each in a list."""

    inputs: (
        Text
        | Annotated[list[Text], Field(min_length=1, max_length=64)]
        | Annotated[list[Annotated[list[Text], Field(min_length=1, max_length=2)]], Field(max_length=64)]
    )
    raw_scores: bool = False


@router.post("/rerank", responses=JUDGING)
@router.post("/v1/rerank", responses=JUDGING)
@router.post("/v2/rerank", responses=JUDGING)
async def rerank(request: Request, wish: Wished, body: Rerank) -> Any:
    """Best first, by `relevance_score` (on 0..1, unless a transform is wished); TEI's form for `texts`."""
    given = body.documents if body.documents is not None else body.texts
    if given is None:
        raise BadTask("give 'documents', or 'texts'")
    texts = tuple(item.text if isinstance(item, Document) else item for item in given)
    try:
        rewards = await _judged(request, wish, body.query, texts)
    except GRMError as failed:
        if body.documents is not None:
            raise
        return _as_tei(failed)
    order = sorted(range(len(texts)), key=lambda i: -rewards[i].value)
    if body.documents is None:
        scored = [{"index": i, "score": rewards[i].value} for i in order]
        return [one | {"text": texts[int(one["index"])]} for one in scored] if body.return_text else scored
    results: list[dict[str, Any]] = [{"index": i, "relevance_score": rewards[i].value} for i in order]
    if body.return_documents:
        results = [one | {"document": {"text": texts[one["index"]]}} for one in results]
    return {
        "id": f"rerank-{uuid.uuid4().hex}",
        "model": body.model or "",
        "usage": tokens(rewards[:1]),
        "results": results[: body.top_n or None],
        "meta": {"api_version": {"version": "2"}},
    }


@router.post("/score", responses=JUDGING)
@router.post("/v1/score", responses=JUDGING)
async def score(request: Request, wish: Wished, body: Score) -> dict[str, Any]:
    """vLLM's `/score`: one text against several is one group; pair by pair, each is judged alone."""
    ones, others = _sides(body)
    if len(ones) == 1:
        rewards = await _judged(request, wish, ones[0], tuple(others))
    elif len(ones) == len(others):
        rewards = await gather(_pair(request, wish, pair) for pair in zip(ones, others, strict=True))
    else:
        raise BadTask("there must be one text, or as many as there are texts to score")
    data = [{"index": i, "object": "score", "score": reward.value} for i, reward in enumerate(rewards)]
    return {
        "id": f"score-{uuid.uuid4().hex}",
        "object": "list",
        "model": body.model or "",
        "data": data,
        "usage": tokens(rewards[:1] if len(ones) == 1 else rewards),
    }


@router.post("/predict", responses=JUDGING)
async def predict(request: Request, wish: Wished, body: Predict) -> Any:
    """TEI's `/predict`: one answer for a text or a pair, a list of them for a list."""
    given = body.inputs
    one = isinstance(given, str) or (len(given) == 2 and all(isinstance(text, str) for text in given))
    try:
        rewards = await gather(_pair(request, wish, item) for item in ([given] if one else given))
    except GRMError as failed:
        return _as_tei(failed)
    labels = [{"score": reward.value, "label": "reward"} for reward in rewards]
    return labels if one else [[label] for label in labels]


async def _pair(request: Request, wish: QueryOptions, given: Any) -> Reward:
    if isinstance(given, str) or len(given) == 1:
        *before, last = chat_templates.turns(given if isinstance(given, str) else given[0])
        if not before or last.role != "assistant":
            raise BadTask("a single input must be a templated conversation that ends in the assistant's turn")
        rewards = await adapter(request, "score").together(
            request, wish, tuple(before), (last.content,), "minmax"
        )
        return rewards[0]
    return (await _judged(request, wish, given[0], (given[1],)))[0]


async def _judged(request: Request, wish: QueryOptions, query: str, texts: tuple[str, ...]) -> list[Reward]:
    dialect = adapter(request, "score")
    return await dialect.together(request, wish, (Message("user", query),), texts, "minmax")


def _as_tei(failed: GRMError) -> ProblemReply:
    """A problem that has TEI's words for it too."""
    if isinstance(failed, Overloaded):
        return problem_of(failed, error="Model is overloaded", error_type="overloaded")
    return problem_of(failed, error=str(failed), error_type=failed.code)


def _sides(body: Score) -> tuple[list[str], list[str]]:
    pairs = [
        (body.text_1, body.text_2),
        (body.data_1, body.data_2),
        (body.queries, body.documents if body.documents is not None else body.items),
    ]
    found = [pair for pair in pairs if pair[0] is not None and pair[1] is not None]
    if len(found) != 1:
        raise BadTask("give text_1 and text_2, data_1 and data_2, or queries and documents (or items)")
    one, other = ([side] if isinstance(side, str) else list(side or []) for side in found[0])
    return one, other
