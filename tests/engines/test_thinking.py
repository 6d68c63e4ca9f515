"""The embedded engines with a tiny model whose chat template ends in a start tag."""

import json

import pytest

from grm_service.engines.base import ThinkingBehavior
from grm_service.engines.files.convert import convert
from grm_service.engines.openvino.engine import OpenVINOEngine
from grm_service.engines.transformers.engine import TransformersEngine, decoder
from grm_service.errors import PromptTooLong
from grm_service.types import Message, Params, Prompt, Thinking
from tests.engines.tiny import TEMPLATE, save_model

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]
ASK = Prompt((Message("user", "Which is better?"),))
OPENS = TEMPLATE.replace(
    "<|im_start|>assistant\n{% endif %}",
    "<|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>"
    "{% else %}<think>\n{% endif %}{% endif %}",
)


@pytest.fixture(scope="module")
def thinker(tmp_path_factory):
    folder = save_model(tmp_path_factory.mktemp("thinker"), "llama")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": OPENS}))
    convert(folder, folder / "model.gguf")
    return folder


@pytest.fixture(params=["transformers", "openvino"])
async def engine(request, thinker, anyio_backend):
    if request.param == "transformers":
        engine = TransformersEngine("m", lambda: str(thinker), continuous=False)
    else:
        engine = OpenVINOEngine("m", lambda: thinker / "model.gguf", 0.1, "f32")
    await engine.start()
    yield engine
    await engine.close()


async def test_thinking_of_embedded_engines(engine):
    assert engine.thinking == ThinkingBehavior("inline", opened=True, can_disable=True)
    assert engine.abilities.continues_thinking
    thought = await engine.complete(ASK, Params(4, thinking_tokens=3))
    assert thought.text.startswith("<think>")
    assert thought.usage.completion_tokens <= 7
    plain = await engine.complete(ASK, Params(4, thinking_tokens=0))
    assert not plain.text.startswith("<think>")
    assert plain.usage.prompt_tokens > thought.usage.prompt_tokens
    # The context of 256 tokens reduces the default room, but not an explicit one.
    assert (await engine.complete(ASK, Params(4))).usage.completion_tokens <= 256
    with pytest.raises(PromptTooLong):
        await engine.complete(ASK, Params(4, thinking_tokens=300))
    after = Prompt(ASK.messages, "Scores:", Thinking("Hm."))
    assert not (await engine.complete(after, Params(4, thinking_tokens=300))).text.startswith("<think>")


def test_special_tags_survive_decoding(thinker):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(thinker)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]"]})
    ids = tokenizer("[THINK]Hm.[/THINK]Yes.<|im_end|>", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Hm.Yes."
    assert decoder(tokenizer)(ids) == "[THINK]Hm.[/THINK]Yes."
