"""Meta RMs: embedded on torch, and on a vLLM server (/classify)."""

import asyncio
import json
import math
import os

import httpx
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from grm_service.engines.choice import embedded_meta_rm
from grm_service.engines.meta_rm import (
    _WARM_UP,
    ClassifyMetaRM,
    TransformersMetaRM,
    encode_judgement,
    grade_batch,
)
from grm_service.errors import EngineError, EngineUnreachable, ModelNotLoaded, PromptTooLong
from grm_service.factory import open_service
from grm_service.settings import Settings
from grm_service.types import Message
from tests.engines.conftest import _SERVERS
from tests.engines.tiny import SIZES, SMOLLM, TEMPLATE, in_256ths, save_model, save_tokenizer
from tests.servers import serving

pytestmark = pytest.mark.anyio


def judgement(text):
    return Message("user", "Please score the responses."), Message("assistant", text)


JUDGEMENTS = [judgement("Both say 2. " * i + "Scores: \\boxed{8, 3}") for i in range(12)]


def save_meta_rm(folder, labels=1, **changed):
    """Save a tiny meta RM with random weights, whose grades differ."""
    tokenizer = save_tokenizer(folder, SMOLLM)
    config = AutoConfig.for_model("llama", **SIZES | {"num_labels": labels} | changed)
    model = AutoModelForSequenceClassification.from_config(config)
    for seed, (name, values) in enumerate(model.named_parameters()):
        values.data = in_256ths(values, seed) + (1 if "norm" in name else 0)
    model.save_pretrained(folder)
    return folder, model.eval(), tokenizer


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_meta_rm(tmp_path_factory.mktemp("meta-rm"))


@pytest.fixture
async def embedded(tiny):
    meta_rm = TransformersMetaRM(str(tiny[0]))
    await meta_rm.start()
    yield meta_rm
    await meta_rm.close()


def unbatched_grade(tiny, judged):
    """The sigmoid of the logit at the last token, computed without any padding."""
    _, model, tokenizer = tiny
    ids = torch.tensor([encode_judgement(tokenizer, judged)])
    with torch.no_grad():
        hidden = model.model(ids).last_hidden_state
        return torch.sigmoid(model.score(hidden[0, -1])).item()


async def test_grade_is_sigmoid_at_last_token(embedded, tiny):
    """The other judgements in the batch have no effect."""
    grades = await asyncio.gather(*map(embedded.grade, JUDGEMENTS))
    assert grades == pytest.approx([unbatched_grade(tiny, judged) for judged in JUDGEMENTS], abs=1e-5)
    assert max(grades) - min(grades) > 0.05
    assert [await embedded.grade(judged) for judged in JUDGEMENTS[:2]] == pytest.approx(grades[:2], abs=1e-5)


async def test_padding_is_not_the_last_token(tmp_path):
    # The template's last token is the tokenizer's padding token.
    saved = save_meta_rm(tmp_path)
    ending = TEMPLATE.replace("<|im_end|>\n", "<|im_end|>")
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"pad_token": "<|im_end|>"}))
    (tmp_path / "chat_template.jinja").write_text(ending)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert encode_judgement(tokenizer, _WARM_UP)[-1] == tokenizer.pad_token_id
    meta_rm = TransformersMetaRM(str(tmp_path))
    await meta_rm.start()
    grades = await asyncio.gather(*map(meta_rm.grade, JUDGEMENTS))
    assert grades == pytest.approx(
        [unbatched_grade((*saved[:2], tokenizer), each) for each in JUDGEMENTS], abs=1e-5
    )
    await meta_rm.close()


async def test_isolated_meta_rm(tiny):
    meta_rm = embedded_meta_rm(str(tiny[0]))
    assert not meta_rm.ready
    await meta_rm.start()
    assert meta_rm.ready
    assert "<|im_end|>" in meta_rm.control_tokens
    grades = await asyncio.gather(*map(meta_rm.grade, JUDGEMENTS[:3]))
    assert grades == pytest.approx([unbatched_grade(tiny, judged) for judged in JUDGEMENTS[:3]], abs=1e-5)
    with pytest.raises(PromptTooLong, match="meta RM's context holds 256"):
        await meta_rm.grade(judgement("word " * 300))
    await meta_rm.close()
    with pytest.raises(EngineError, match="the meta RM is not running"):
        await meta_rm.grade(JUDGEMENTS[0])


async def test_cancel_leaves_other_requests(embedded):
    waiting = [asyncio.create_task(embedded.grade(judged)) for judged in JUDGEMENTS]
    await asyncio.sleep(0)
    waiting[3].cancel()
    grades = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(grades[3], asyncio.CancelledError)
    assert all(0 < grade < 1 for i, grade in enumerate(grades) if i != 3)


async def test_failed_batch_fails_its_requests(embedded, monkeypatch):
    """The next batch is graded again."""

    def failing(model, rows):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("grm_service.engines.meta_rm.grade_batch", failing)
    grades = await asyncio.gather(*map(embedded.grade, JUDGEMENTS[:3]), return_exceptions=True)
    assert {str(error).partition("batch of")[2][2:] for error in grades} == {": out of memory"}
    monkeypatch.setattr("grm_service.engines.meta_rm.grade_batch", lambda model, rows: [math.nan] * len(rows))
    with pytest.raises(EngineError, match="not a number"):
        await embedded.grade(JUDGEMENTS[0])
    monkeypatch.setattr("grm_service.engines.meta_rm.grade_batch", grade_batch)
    assert 0 < await embedded.grade(JUDGEMENTS[0]) < 1


async def test_wrong_head_is_refused(tmp_path):
    judge, two = tmp_path / "judge", tmp_path / "two"
    save_model(judge, "llama")
    save_meta_rm(two, labels=2)
    for folder in (judge, two):
        with pytest.raises(ModelNotLoaded, match="it must be a sequence classifier with one logit"):
            await TransformersMetaRM(str(folder)).start()
    with pytest.raises(ModelNotLoaded, match="cannot load the meta RM"):
        await TransformersMetaRM(str(tmp_path / "nothing")).start()


def classifying(answer):
    """Return a meta RM on a server with these answers, and the list of its requests."""
    requests = []

    def reply(request):
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "served"}]})
        requests.append((request.url.path, json.loads(request.content)))
        return answer(requests[-1][1])

    return ClassifyMetaRM("http://there/v1", transport=httpx.MockTransport(reply), timeout_s=2), requests


def probs(*values):
    return lambda body: httpx.Response(200, json={"data": [{"index": 0, "probs": list(values)}]})


async def test_server_request():
    """`/classify` with messages, and the first model that the server lists."""
    meta_rm, requests = classifying(probs(0.25))
    await meta_rm.start()
    assert meta_rm.model == "served"
    assert await meta_rm.grade(JUDGEMENTS[1]) == 0.25
    turns = [{"role": turn.role, "content": turn.content} for turn in JUDGEMENTS[1]]
    assert requests[-1] == ("/classify", {"model": "served", "messages": turns})
    await meta_rm.close()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (probs(0.2, 0.8), "returned no single grade"),
        (probs(), "returned no single grade"),
        (probs("high"), "returned no single grade"),
        (probs(-3.2), "returned -3.2, which is not a probability.*multi_label_classification"),
        (probs(7.5), "returned 7.5, which is not a probability"),
        (lambda body: httpx.Response(200, json={"data": []}), "returned no single grade"),
    ],
)
async def test_invalid_grade_is_an_error(answer, says):
    meta_rm, _ = classifying(answer)
    with pytest.raises(EngineError, match=says):
        await meta_rm.grade(JUDGEMENTS[0])
    await meta_rm.close()


async def test_start_errors():
    meta_rm, _ = classifying(lambda body: httpx.Response(404, json={"detail": "Not Found"}))
    with pytest.raises(ModelNotLoaded, match=r"does not serve the meta RM served.*404"):
        await meta_rm.start()
    await meta_rm.close()
    away = ClassifyMetaRM("http://127.0.0.1:9", "m", timeout_s=5)
    with pytest.raises(EngineUnreachable):
        await away.start()
    await away.close()


async def test_too_long_judgement_names_sizes():
    message = "This model's maximum context length is 256 tokens. However, your request has 300 input tokens."
    meta_rm, _ = classifying(lambda body: httpx.Response(400, json={"error": {"message": message}}))
    with pytest.raises(PromptTooLong, match=r"300 tokens .* holds 256"):
        await meta_rm.grade(JUDGEMENTS[0])
    await meta_rm.close()


def test_settings_choose_meta_rm(tmp_path, caplog):
    audit = {"audit_url": f"sqlite:///{tmp_path}/a.db", "audit_key_file": tmp_path / "a.key"}

    def opened(**settings):
        return open_service(Settings(**{"engine": "scripted"} | settings | audit))

    assert opened().meta_rm is None
    there = opened(meta_rm_url="http://there:8002", meta_rm="named")
    assert (type(there.meta_rm), there.meta_rm.model) == (ClassifyMetaRM, "named")
    assert there.profile.meta_rm == "named"
    here = opened(meta_rm="./here")
    assert (here.meta_rm.name, here.meta_rm.model) == ("transformers", "./here")
    assert caplog.records == []
    assert opened(profile="deepseek-grm-27b").meta_rm is None
    assert "BBQGOD/DeepSeek-GRM-27B-MetaRM of the profile deepseek-grm-27b does not run here" in caplog.text


@pytest.mark.vllm
@pytest.mark.timeout(240)
async def test_vllm_equals_embedded(tiny, embedded, tmp_path):
    command = [
        _SERVERS / "vllm", "serve", tiny[0], "--runner", "pooling", "--dtype", "float32", "--enforce-eager",
        "--served-model-name", "tiny-meta-rm",
    ]  # fmt: skip
    env = {
        "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
        "PATH": f"{_SERVERS}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    with serving(tmp_path / "log", *command, **env) as url:
        meta_rm = ClassifyMetaRM(url)
        await meta_rm.start()
        assert meta_rm.model == "tiny-meta-rm"
        theirs = await asyncio.gather(*map(meta_rm.grade, JUDGEMENTS))
        with pytest.raises(PromptTooLong, match="holds 256"):
            await meta_rm.grade(judgement("word " * 300))
        await meta_rm.close()
    ours = await asyncio.gather(*map(embedded.grade, JUDGEMENTS))
    assert theirs == pytest.approx(ours, abs=1e-3)
