"""Rerank and score routes of vLLM, Jina, Cohere and TEI: the documents of a query are judged as one group."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, BeforeValidator, Field

from grm_service import chat_templates
from grm_service.api.dialects.adapter import Reward, adapter, openai_usage
from grm_service.api.dialects.query_options import QueryOptions, QueryOptionsParam
from grm_service.api.json_bodies import JSONRoute, in_proportion, json_reply
from grm_service.api.problems import JUDGING, ProblemReply, problem_of
from grm_service.api.texts import ContentPart, Text
from grm_service.concurrency import gather
from grm_service.content import to_response
from grm_service.errors import BadTask, GRMError, Overloaded
from grm_service.types import Message

router = APIRouter(tags=["dialects"], route_class=JSONRoute)


Document = Annotated[str, BeforeValidator(to_response, json_schema_input_type=str | ContentPart)]
Documents = Annotated[list[Document], Field(min_length=1, max_length=64)]
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
    """The texts to score (`text_2`), and one text for all of them or one for each (`text_1`)."""

    model: Text | None = None
    text_1: Texts | None = None
    text_2: Texts | None = None
    data_1: Texts | None = None
    data_2: Texts | None = None
    queries: Texts | None = None
    documents: Texts | None = None
    items: Texts | None = None


class Predict(BaseModel):
    """TEI: a templated conversation, a pair of query and response, or a list of lists of these."""

    inputs: (
        Text
        | Annotated[list[Text], Field(min_length=1, max_length=64)]
        | Annotated[list[Annotated[list[Text], Field(min_length=1, max_length=2)]], Field(max_length=64)]
    )
    raw_scores: bool = False


@router.post("/rerank", responses=JUDGING)
@router.post("/v1/rerank", responses=JUDGING)
@router.post("/v2/rerank", responses=JUDGING)
async def rerank(request: Request, options: QueryOptionsParam, body: Rerank) -> Any:
    """Rank documents by `relevance_score` (0..1 unless `transform` is set); `texts` get TEI's format."""
    documents = body.documents if body.documents is not None else body.texts
    if documents is None:
        raise BadTask("pass 'documents' or 'texts'")
    texts = tuple(documents)
    try:
        rewards = await _judge(request, options, body.query, texts)
    except GRMError as error:
        if body.documents is not None:
            raise
        return _tei_problem(error)
    order = sorted(range(len(texts)), key=lambda i: -rewards[i].value)
    if body.documents is None:
        scored: list[dict[str, Any]] = [{"index": i, "score": rewards[i].value} for i in order]
        if body.return_text:
            scored = [row | {"text": texts[int(row["index"])]} for row in scored]
        return await in_proportion(request, json_reply, scored)
    results: list[dict[str, Any]] = [{"index": i, "relevance_score": rewards[i].value} for i in order]
    if body.return_documents:
        results = [row | {"document": {"text": texts[row["index"]]}} for row in results]
    reply = {
        "id": f"rerank-{uuid.uuid4().hex}",
        "model": body.model or "",
        "usage": openai_usage(rewards[:1]),
        "results": results[: body.top_n or None],
        "meta": {"api_version": {"version": "2"}},
    }
    return await in_proportion(request, json_reply, reply)


@router.post("/score", responses=JUDGING)
@router.post("/v1/score", responses=JUDGING)
async def score(request: Request, options: QueryOptionsParam, body: Score) -> dict[str, Any]:
    """Score texts as vLLM's `/score`: one text against several is a group, each pair is judged alone."""
    queries, texts = _sides(body)
    if len(queries) == 1:
        rewards = await _judge(request, options, queries[0], tuple(texts))
    elif len(queries) == len(texts):
        rewards = await gather(
            _judge_pair(request, options, pair) for pair in zip(queries, texts, strict=True)
        )
    else:
        raise BadTask("there must be one text, or as many as there are texts to score")
    data = [{"index": i, "object": "score", "score": reward.value} for i, reward in enumerate(rewards)]
    return {
        "id": f"score-{uuid.uuid4().hex}",
        "object": "list",
        "model": body.model or "",
        "data": data,
        "usage": openai_usage(rewards[:1] if len(queries) == 1 else rewards),
    }


@router.post("/predict", responses=JUDGING)
async def predict(request: Request, options: QueryOptionsParam, body: Predict) -> Any:
    """Score pairs as TEI's `/predict`: one result for a text or a pair, a list of results for a list."""
    inputs = body.inputs
    single = isinstance(inputs, str) or (len(inputs) == 2 and all(isinstance(text, str) for text in inputs))
    try:
        rewards = await gather(
            _judge_pair(request, options, item) for item in ([inputs] if single else inputs)
        )
    except GRMError as error:
        return _tei_problem(error)
    labels = [{"score": reward.value, "label": "reward"} for reward in rewards]
    return labels if single else [[label] for label in labels]


async def _judge_pair(request: Request, options: QueryOptions, pair: Any) -> Reward:
    """Judge a query and a response, or a templated conversation that has both."""
    if isinstance(pair, str) or len(pair) == 1:
        text = pair if isinstance(pair, str) else pair[0]
        *before, last = await in_proportion(request, chat_templates.parse_conversation, text)
        if not before or last.role != "assistant":
            raise BadTask("a single input must be a templated conversation that ends in the assistant's turn")
        rewards = await adapter(request, "score").together(
            request, options, tuple(before), (last.content,), "minmax"
        )
        return rewards[0]
    return (await _judge(request, options, pair[0], (pair[1],)))[0]


async def _judge(request: Request, options: QueryOptions, query: str, texts: tuple[str, ...]) -> list[Reward]:
    dialect = adapter(request, "score")
    return await dialect.together(request, options, (Message("user", query),), texts, "minmax")


def _tei_problem(error: GRMError) -> ProblemReply:
    """Return a problem that has the error fields of TEI as well."""
    if isinstance(error, Overloaded):
        return problem_of(error, error="Model is overloaded", error_type="overloaded")
    return problem_of(error, error=str(error), error_type=error.code)


def _sides(body: Score) -> tuple[list[str], list[str]]:
    pairs = [
        (body.text_1, body.text_2),
        (body.data_1, body.data_2),
        (body.queries, body.documents if body.documents is not None else body.items),
    ]
    complete = [pair for pair in pairs if pair[0] is not None and pair[1] is not None]
    if len(complete) != 1:
        raise BadTask("pass text_1 and text_2, data_1 and data_2, or queries and documents (or items)")
    queries, texts = ([side] if isinstance(side, str) else list(side or []) for side in complete[0])
    return queries, texts
