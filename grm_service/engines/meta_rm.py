"""Meta RMs: one-logit sequence classifiers that say of a judgement how likely it is right.

Both read the same tokens: the judgement through the checkpoint's own chat template, nothing before or behind.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from grm_service.engines.files.adapter import is_adapter
from grm_service.engines.remote.upstream import Refused, Upstream, too_long
from grm_service.engines.transformers.engine import control_tokens
from grm_service.errors import EngineError, ModelNotLoaded, PromptTooLong
from grm_service.types import Message, Params

logger = logging.getLogger(__name__)
Judgement = tuple[Message, ...]
_FIRST: Judgement = (Message("user", "Please score the responses."), Message("assistant", "Both are good."))
_MOST_ROWS = 16


class TransformersMetaRM:
    """Embedded, on torch. `model` is a hub id or a folder; what waits is graded in batches."""

    name = "transformers"
    control_tokens: tuple[str, ...] = ()

    def __init__(self, model: str) -> None:
        self.model = model
        self._loaded: Any = None
        self._waiting: list[tuple[list[int], asyncio.Future[float]]] = []
        self._working: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        return self._loaded is not None

    async def start(self) -> None:
        """Loads the model and gives a grade. Raises ModelNotLoaded."""
        self._loaded = await asyncio.to_thread(self._load)
        await self.grade(_FIRST)

    async def grade(self, judgement: Judgement) -> float:
        """0..1, with whatever else waits. Raises PromptTooLong, EngineError."""
        if self._loaded is None:
            raise EngineError("the meta RM is not running")
        ids = await asyncio.to_thread(encode, self._tokenizer, judgement)
        context = int(self._loaded.config.get_text_config().max_position_embeddings)
        if len(ids) > context:
            raise PromptTooLong(len(ids), 0, context, "meta RM's context")
        done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append((ids, done))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work(self._loaded))
        return await done

    async def close(self) -> None:
        """What still waits fails."""
        self._loaded = None
        waiting, self._waiting = self._waiting, []
        _fail([done for _, done in waiting], "the meta RM was closed")
        if self._working is not None:
            await self._working

    async def _work(self, model: Any) -> None:
        """A batch after the other, of like lengths, until nothing waits."""
        while self._waiting:
            waiting = [each for each in self._waiting if not each[1].cancelled()]
            waiting.sort(key=lambda each: len(each[0]))
            batch, self._waiting = waiting[:_MOST_ROWS], waiting[_MOST_ROWS:]
            rows, open_ = [ids for ids, _ in batch], [done for _, done in batch]
            try:
                found = await asyncio.to_thread(grades, model, rows) if rows else []
            except Exception as failed:
                logger.error("a batch of %d judgements failed: %s", len(rows), failed)
                _fail(open_, f"the meta RM failed in a batch of {len(rows)}: {failed}")
                continue
            for done, grade in zip(open_, found, strict=True):
                if math.isnan(grade):
                    _fail([done], "the meta RM's grade is not a number")
                elif not done.done():
                    done.set_result(grade)

    def _load(self) -> Any:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        path = str(Path(self.model).expanduser()) if Path(self.model).expanduser().exists() else self.model
        if is_adapter(Path(path)):
            raise ModelNotLoaded(f"the meta RM {self.model} is an adapter: merge it (merge_and_unload)")
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(path)
            model, told = AutoModelForSequenceClassification.from_pretrained(
                path, dtype="auto", output_loading_info=True
            )
        except (OSError, ValueError, ImportError, RuntimeError) as failed:
            reason = str(failed).strip().splitlines()[0] if str(failed).strip() else type(failed).__name__
            raise ModelNotLoaded(f"transformers cannot load the meta RM {self.model}: {reason}") from None
        # A model that lacks a head would be given one, with weights by chance.
        if told["missing_keys"] or model.config.num_labels != 1:
            raise ModelNotLoaded(
                f"{self.model} is no meta RM: it must be a sequence classifier with one logit, as `grm train "
                "meta-rm` writes it"
            )
        self.control_tokens = control_tokens(self._tokenizer)
        fill_with(model, self._tokenizer)
        return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


class ClassifyMetaRM:
    """On a vLLM server, by its /classify. `url` is the server's; `model` None takes the first that it lists.

    `timeout_s` bounds one grade, further tries included.
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
        self._upstream = Upstream(
            url.rstrip("/").removesuffix("/v1"), api_key, timeout_s, connections, transport
        )

    async def start(self) -> None:
        """Asks for a first grade. Raises ModelNotLoaded, EngineUnreachable."""
        url = self._upstream.url
        try:
            if not self.model:
                self.model = str((await self._upstream.get("/v1/models"))["data"][0]["id"])
            await self.grade(_FIRST)
        except (KeyError, IndexError, TypeError):
            raise ModelNotLoaded(f"{url}/v1/models names no model: set GRM_META_RM") from None
        except Refused as refused:
            raise ModelNotLoaded(f"{url} does not serve the meta RM {self.model}: {refused}") from refused
        logger.info("%s grades with %s", url, self.model)

    async def grade(self, judgement: Judgement) -> float:
        """0..1; cancelling closes its connection. Raises PromptTooLong, EngineError."""
        turns = [{"role": turn.role, "content": turn.content} for turn in judgement]
        try:
            reply = await self._upstream.post("/classify", {"model": self.model, "messages": turns})
        except Refused as refused:
            raise too_long(refused, Params(max_tokens=0)) or refused from None
        try:
            (grade,) = map(float, reply["data"][0]["probs"])
        except (KeyError, IndexError, TypeError, ValueError) as wrong:
            raise EngineError(
                f"{self._upstream.url} gives no single grade ({wrong!r}), as a sequence classifier with one "
                f"logit would: {str(reply)[:300]}"
            ) from None
        if not 0 <= grade <= 1:
            raise EngineError(
                f"{self._upstream.url} gives {grade} for a probability: serve the model with --hf-overrides "
                '\'{"problem_type": "multi_label_classification"}\''
            )
        return grade

    async def close(self) -> None:
        """Closes the connections."""
        await self._upstream.close()


def encode(tokenizer: Any, judgement: Judgement) -> list[int]:
    """The tokens that are graded, in training too; the template has written every special one."""
    turns = [{"role": turn.role, "content": turn.content} for turn in judgement]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def fill_with(model: Any, tokenizer: Any) -> None:
    """Has the model's batches filled with a token that no judgement ends in.

    transformers takes a row's last token that is not this one for its end, and many tokenizers fill with the
    very token that ends a turn.
    """
    last = encode(tokenizer, _FIRST)[-1]
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id, 0, 1)
    filling = next(token for token in known if token not in (None, last))
    model.config.get_text_config().pad_token_id = filling


def grades(model: Any, rows: Sequence[list[int]]) -> list[float]:
    """Of one batch of encoded judgements, 0..1 each."""
    import torch

    longest, filling = max(map(len, rows)), model.config.get_text_config().pad_token_id
    ids = torch.tensor([row + [filling] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    with torch.inference_mode():
        logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits
    found: list[float] = torch.sigmoid(logits[:, 0].double()).tolist()
    return found


def _fail(open_: Sequence[asyncio.Future[float]], reason: str) -> None:
    for done in open_:
        with suppress(asyncio.InvalidStateError):  # cancelled meanwhile
            done.set_exception(EngineError(reason))
