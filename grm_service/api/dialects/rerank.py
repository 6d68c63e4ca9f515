"""Rerank and score routes of vLLM, Jina, Cohere and TEI: the documents of a query are judged as one group."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BeforeValidator, Field

from grm_service import chat_templates
from grm_service.api.base import Described
from grm_service.api.dialects.adapter import Reward, adapter, openai_usage
from grm_service.api.dialects.query_options import QueryOptions, QueryOptionsParam
from grm_service.api.json_bodies import JSONRoute, in_proportion, json_reply
from grm_service.api.problems import ProblemReply, problem_of
from grm_service.api.responses import JUDGING, example
from grm_service.api.texts import ContentPart, Text
from grm_service.concurrency import gather
from grm_service.content import to_response
from grm_service.errors import BadTask, GRMError, Overloaded
from grm_service.types import Message

router = APIRouter(tags=["dialects"], route_class=JSONRoute)


Document = Annotated[str, BeforeValidator(to_response, json_schema_input_type=str | ContentPart)]
Documents = Annotated[list[Document], Field(min_length=1, max_length=64)]
Texts = Text | Annotated[list[Text], Field(min_length=1, max_length=64)]


class Rerank(Described):
    """A query with `documents` or `texts`, which are judged as one group."""

    model: Text | None = None
    """Copied to the reply; it selects nothing, see the parameter `profile`."""
    query: Text
    """The query, judged as a user's message."""
    documents: Documents | None = None
    """1 to 64 documents, each a text or a part; the reply has the format of vLLM, Jina and Cohere."""
    texts: Documents | None = None
    """1 to 64 documents; the reply has the format of TEI. Ignored beside `documents`."""
    top_n: Annotated[int, Field(ge=0)] | None = None
    """Most results of a reply to `documents`, the best first; null or 0: all."""
    return_documents: bool = True
    """Whether the results for `documents` have their texts."""
    return_text: bool = False
    """Whether the results for `texts` have their texts."""


class Score(Described):
    """Queries and the texts to score, under one of three pairs of names."""

    model: Text | None = None
    """Copied to the reply; it selects nothing, see the parameter `profile`."""
    text_1: Texts | None = None
    """One query for all of `text_2`, which are then judged as a group, or one for each."""
    text_2: Texts | None = None
    """1 to 64 texts to score."""
    data_1: Texts | None = None
    """Another name of `text_1`, with `data_2`."""
    data_2: Texts | None = None
    """Another name of `text_2`, with `data_1`."""
    queries: Texts | None = None
    """Another name of `text_1`, with `documents` or `items`."""
    documents: Texts | None = None
    """Another name of `text_2`, with `queries`."""
    items: Texts | None = None
    """Another name of `text_2`, with `queries`; ignored beside `documents`."""


class Predict(Described):
    """The inputs of TEI's `/predict`."""

    inputs: (
        Text
        | Annotated[list[Text], Field(min_length=1, max_length=64)]
        | Annotated[list[Annotated[list[Text], Field(min_length=1, max_length=2)]], Field(max_length=64)]
    )
    """A conversation in its chat template, or a list of two texts: a query and a response. Other lists have
    up to 64 inputs: conversations, or lists of one conversation or of query and response.
    """
    raw_scores: bool = False
    """Ignored; rewards are mapped to 0..1 unless `transform` is set."""


@router.post("/rerank", summary="Rank documents", responses=example("/rerank") | JUDGING)
@router.post("/v1/rerank", summary="Rank documents", responses=example("/rerank") | JUDGING)
@router.post("/v2/rerank", summary="Rank documents", responses=example("/rerank") | JUDGING)
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


@router.post("/score", summary="Score texts", responses=example("/score") | JUDGING)
@router.post("/v1/score", summary="Score texts", responses=example("/score") | JUDGING)
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


@router.post("/predict", summary="Score pairs in TEI's format", responses=example("/predict") | JUDGING)
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
