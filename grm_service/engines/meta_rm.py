"""Meta RMs: sequence classifiers with one logit that grade critiques, embedded on torch or on a vLLM server.

Both grade the same tokens: the judgement in the checkpoint's own chat template, with nothing added.
"""

from __future__ import annotations

import asyncio
import logging
import math
import reprlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from grm_service.engines.files.adapter import is_adapter
from grm_service.engines.remote.http_retry import RetryingClient
from grm_service.engines.transformers.engine import control_tokens, error_summary
from grm_service.errors import EngineError, ModelNotLoaded, PromptTooLong, UpstreamRefused
from grm_service.lengths import messages_chars
from grm_service.types import Message

logger = logging.getLogger(__name__)
Judgement = tuple[Message, ...]
_WARM_UP: Judgement = (Message("user", "Please score the responses."), Message("assistant", "Both are good."))
_MAX_BATCH = 16


class TransformersMetaRM:
    """A meta RM on torch. `model` is a hub id or a folder. Concurrent requests are batched by length."""

    name = "transformers"
    control_tokens: tuple[str, ...] = ()

    def __init__(self, model: str) -> None:
        self.model = model
        self._loaded: Any = None
        self._waiting: list[tuple[list[int], asyncio.Future[float]]] = []
        self._batching: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        return self._loaded is not None

    async def start(self) -> None:
        """Load the model and compute one grade. Raises ModelNotLoaded."""
        self._loaded = await asyncio.to_thread(self._load)
        await self.grade(_WARM_UP)

    async def grade(self, judgement: Judgement) -> float:
        """Return a judgement's grade, 0..1. Raises PromptTooLong, EngineError."""
        if self._loaded is None:
            raise EngineError("the meta RM is not running")
        ids = await asyncio.to_thread(encode_judgement, self._tokenizer, judgement)
        context = int(self._loaded.config.get_text_config().max_position_embeddings)
        if len(ids) > context:
            raise PromptTooLong(len(ids), 0, context, "meta RM's context")
        result: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append((ids, result))
        if self._batching is None or self._batching.done():
            self._batching = asyncio.create_task(self._grade_waiting(self._loaded))
        return await result

    async def close(self) -> None:
        """Release the model. Waiting requests fail with EngineError."""
        self._loaded = None
        waiting, self._waiting = self._waiting, []
        _fail([result for _, result in waiting], "the meta RM was closed")
        if self._batching is not None:
            await self._batching

    async def _grade_waiting(self, model: Any) -> None:
        """Grade batch after batch until no request waits."""
        while self._waiting:
            waiting = [each for each in self._waiting if not each[1].cancelled()]
            waiting.sort(key=lambda each: len(each[0]))  # similar lengths need little padding
            batch, self._waiting = waiting[:_MAX_BATCH], waiting[_MAX_BATCH:]
            rows, results = [ids for ids, _ in batch], [result for _, result in batch]
            try:
                grades = await asyncio.to_thread(grade_batch, model, rows) if rows else []
            except Exception as error:
                logger.error("a batch of %d judgements failed: %s", len(rows), error)
                _fail(results, f"the meta RM failed in a batch of {len(rows)}: {error}")
                continue
            for result, grade in zip(results, grades, strict=True):
                if math.isnan(grade):
                    _fail([result], "the meta RM's grade is not a number")
                elif not result.done():
                    result.set_result(grade)

    def _load(self) -> Any:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        from grm_service.engines.transformers.dtype import placed

        path = str(Path(self.model).expanduser()) if Path(self.model).expanduser().exists() else self.model
        if is_adapter(Path(path)):
            raise ModelNotLoaded(f"the meta RM {self.model} is an adapter: merge it (merge_and_unload)")
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(path)
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                path, dtype="auto", output_loading_info=True
            )
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            raise ModelNotLoaded(
                f"transformers cannot load the meta RM {self.model}: {error_summary(error)}"
            ) from None
        # transformers adds a head with random weights to a model that has none: refuse that.
        if loading["missing_keys"] or model.config.num_labels != 1:
            raise ModelNotLoaded(
                f"{self.model} is not a meta RM: it must be a sequence classifier with one logit, as written "
                "by `grm train meta-rm`"
            )
        self.control_tokens = control_tokens(self._tokenizer)
        set_pad_token(model, self._tokenizer)
        return placed(model, self.model)


class ClassifyMetaRM:
    """A meta RM on a vLLM server (`/classify`). `model` None means the first model that the server lists.

    `timeout_s` limits one grade, retries included.
    """

    name = "vllm"
    ready = True
    control_tokens: tuple[str, ...] = ()

    def __init__(
        self,
        url: str,
        model: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 300.0,
        connections: int = 256,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.model = model or ""
        self._client = RetryingClient(
            url.rstrip("/").removesuffix("/v1"), api_key, timeout_s, connections, transport
        )

    async def start(self) -> None:
        """Request one grade. Raises ModelNotLoaded, EngineUnreachable."""
        url = self._client.url
        try:
            if not self.model:
                self.model = str((await self._client.get("/v1/models"))["data"][0]["id"])
            await self.grade(_WARM_UP)
        except (KeyError, IndexError, TypeError):
            raise ModelNotLoaded(f"{url}/v1/models lists no model: set GRM_META_RM") from None
        except UpstreamRefused as error:
            raise ModelNotLoaded(f"{url} does not serve the meta RM {self.model}: {error}") from error
        logger.info("%s serves the meta RM %s", url, self.model)

    async def grade(self, judgement: Judgement) -> float:
        """Return a judgement's grade, 0..1; cancelling closes its connection.

        Raises PromptTooLong, EngineError.
        """
        messages = [{"role": message.role, "content": message.content} for message in judgement]
        body = {"model": self.model, "messages": messages}
        reply = await self._client.post("/classify", body, messages_chars(judgement))
        try:
            (grade,) = map(float, reply["data"][0]["probs"])
        except (KeyError, IndexError, TypeError, ValueError):
            what = (
                f"{self._client.url} returned no single grade, as a sequence classifier with one logit would"
            )
            raise EngineError(what, reprlib.repr(reply)) from None
        if not 0 <= grade <= 1:
            raise EngineError(
                f"{self._client.url} returned {grade}, which is not a probability: serve the model with "
                '--hf-overrides \'{"problem_type": "multi_label_classification"}\''
            )
        return grade

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()


def encode_judgement(tokenizer: Any, judgement: Judgement) -> list[int]:
    """Return the token ids to grade, the same in training; the template adds all special tokens."""
    messages = [{"role": message.role, "content": message.content} for message in judgement]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def set_pad_token(model: Any, tokenizer: Any) -> None:
    """Set a padding token that no judgement ends in.

    transformers reads the logit at the last token that is not padding, and many tokenizers pad with the very
    token that ends a turn.
    """
    last = encode_judgement(tokenizer, _WARM_UP)[-1]
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id, 0, 1)
    padding = next(token for token in candidates if token not in (None, last))
    model.config.get_text_config().pad_token_id = padding


def grade_batch(model: Any, rows: Sequence[list[int]]) -> list[float]:
    """Return the grades (0..1) of a batch of encoded judgements: the sigmoid of each one's logit."""
    import torch

    longest, padding = max(map(len, rows)), model.config.get_text_config().pad_token_id
    ids = torch.tensor([row + [padding] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    with torch.inference_mode():
        logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits
    grades: list[float] = torch.sigmoid(logits[:, 0].double()).tolist()
    return grades


def _fail(results: Sequence[asyncio.Future[float]], reason: str) -> None:
    for result in results:
        with suppress(asyncio.InvalidStateError):  # cancelled in the meantime
            result.set_exception(EngineError(reason))
