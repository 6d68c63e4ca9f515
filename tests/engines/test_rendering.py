"""Prompts with thinking, in chat templates of real models."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from transformers.utils.chat_template_utils import _compile_jinja_template

from grm_service.engines.base import THINKING_TOKENS, ThinkingBehavior
from grm_service.engines.rendering import ChatTemplate, Rendered, decode_with_tags, is_thinking_tag
from grm_service.errors import PromptTooLong
from grm_service.types import Message, Params, Prompt, Thinking

_TRL = find_spec("trl")
TEMPLATES = Path(_TRL.origin).with_name("chat_templates") if _TRL and _TRL.origin else None
needs_templates = pytest.mark.skipif(TEMPLATES is None, reason="pip install 'grm-service[train]'")
HELLO = Prompt((Message("user", "Which is better?"),))
THOUGHT = Thinking("The first.")
NEVER = ThinkingBehavior()


def template(source):
    compiled = _compile_jinja_template(source)

    def render(messages, variables):
        fixed = {"messages": messages, "add_generation_prompt": True, "bos_token": "<s>"}
        return compiled.render(**{"tools": None, "documents": None, **variables, **fixed})

    return ChatTemplate(render, source)


def shipped(name):
    return template((TEMPLATES / f"{name}.jinja").read_text())


def text(name, prompt=HELLO, params=None):
    return shipped(name).render(prompt, params or Params(8)).text


@needs_templates
@pytest.mark.parametrize(
    ("name", "behavior"),
    [
        ("qwen3", ThinkingBehavior("inline", opened=False, can_disable=True)),
        ("glm4moe", ThinkingBehavior("inline", opened=False, can_disable=True)),
        ("qwen3_5_think", ThinkingBehavior("inline", opened=True, can_disable=True)),
        ("nemotron_3_nano", ThinkingBehavior("inline", opened=True, can_disable=True)),
        ("deepseek_r1_distill", ThinkingBehavior("inline", opened=True, can_disable=False)),
        ("gptoss", ThinkingBehavior("inline", opened=False, can_disable=False)),
        ("qwen3_5_nothink", ThinkingBehavior(None, opened=False, can_disable=True)),
        ("gemma4", ThinkingBehavior(None, opened=False, can_disable=True)),
        *((name, NEVER) for name in ("qwen3_instruct_2507", "qwen2_5", "llama3_1", "gemma3", "cohere2")),
    ],
)
def test_behavior_of_real_templates(name, behavior):
    assert shipped(name).behavior == behavior


# DeepSeek V3.1 and Granite name the variable "thinking", and do not think unless it is set.
DEEPSEEK_31 = (
    "{% if not thinking is defined %}{% set thinking = false %}{% endif %}<|User|>{{ messages[0].content }}"
    "<|Assistant|>{% if thinking %}<think>{% else %}</think>{% endif %}"
)


def test_switch_named_thinking():
    deepseek = template(DEEPSEEK_31)
    assert deepseek.behavior == ThinkingBehavior(None, opened=False, can_disable=True)
    on = Params(8, request_fields={"chat_template_kwargs": {"thinking": True}})
    rendered = deepseek.render(HELLO, on)
    assert rendered.start_tag == "<think>"
    assert rendered.room == THINKING_TOKENS


def test_refusing_template_is_no_thinking_one():
    assert template("{{ raise_exception('no') }}").behavior == NEVER


@needs_templates
def test_no_thinking_tokens_turn_it_off():
    assert text("qwen3", params=Params(8, thinking_tokens=0)).endswith("<think>\n\n</think>\n\n")
    assert text("qwen3_5_think", params=Params(8, thinking_tokens=0)).endswith("<think>\n\n</think>\n\n")
    assert text("glm4moe", params=Params(8, thinking_tokens=0)).endswith("<think></think>")
    assert text("deepseek_r1_distill", params=Params(8, thinking_tokens=0)).endswith("<think>\n")


@needs_templates
def test_own_template_variables_are_passed():
    own = Params(8, thinking_tokens=0, request_fields={"chat_template_kwargs": {"enable_thinking": True}})
    assert text("qwen3_5_nothink", params=own).endswith("<think>\n")
    low = Params(8, request_fields={"chat_template_kwargs": {"reasoning_effort": "low"}})
    assert "Reasoning: low" in text("gptoss", params=low)


@needs_templates
@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_think", "deepseek_r1_distill", "nemotron_3_nano"])
def test_continuation_after_thinking_has_each_tag_once(name):
    written = text(name, replace(HELLO, thinking=THOUGHT, continuation="Scores:"))
    assert written.endswith("<think>\nThe first.\n</think>\n\nScores:")
    assert written.count("<think>") == 1


@needs_templates
@pytest.mark.parametrize("name", ["qwen3_5_think", "deepseek_r1_distill"])
def test_plain_continuation_closes_thinking(name):
    assert text(name, replace(HELLO, continuation="Scores:")).endswith("<think>\n\n</think>\n\nScores:")


@needs_templates
@pytest.mark.parametrize("name", ["qwen3", "llama3_1"])
def test_plain_continuation_of_other_templates(name):
    assert text(name, replace(HELLO, continuation="Scores:")) == text(name) + "Scores:"


@needs_templates
def test_continuation_with_tags_of_the_model():
    thinking = Thinking("The first.", tags=("[THINK]", "[/THINK]"))
    written = text("llama3_1", replace(HELLO, thinking=thinking, continuation="Scores:"))
    assert written.endswith("[THINK]\nThe first.\n[/THINK]\n\nScores:")


@needs_templates
@pytest.mark.parametrize(
    ("name", "prompt", "tokens", "room"),
    [
        ("qwen3", HELLO, None, THINKING_TOKENS),
        ("qwen3", HELLO, 100, 100),
        ("qwen3", HELLO, 0, 0),
        ("qwen3", replace(HELLO, continuation="1."), None, 0),
        ("qwen3", replace(HELLO, continuation="1.", thinking=THOUGHT), 100, 0),
        ("llama3_1", HELLO, None, 0),
        ("llama3_1", HELLO, 100, 100),
    ],
)
def test_room_for_thinking(name, prompt, tokens, room):
    assert shipped(name).render(prompt, Params(8, thinking_tokens=tokens)).room == room


def test_small_context_reduces_default_room():
    default, wanted = Rendered("", room=4096, shrinks=True), Rendered("", room=4096)
    assert default.token_limit(100, 50, 10_000, "context") == 4146
    assert default.token_limit(100, 50, 256, "context") == 156
    assert default.token_limit(100, 50, 150, "context") == 50
    for rendered, size in ((default, 101), (wanted, 100)):
        with pytest.raises(PromptTooLong):
            rendered.token_limit(size, 50, 150, "context")


def test_special_thinking_tags_are_decoded():
    words = {1: "Hmm.", 2: "[THINK]", 3: "[/THINK]", 4: "<s>", 5: "Yes."}
    tags = {id_: word for id_, word in words.items() if is_thinking_tag(word)}

    def decode(ids):
        return "".join(words[id_] for id_ in ids if id_ not in (2, 3, 4))

    assert decode_with_tags([4, 2, 1, 1, 3, 5, 4], tags, decode) == "[THINK]Hmm.Hmm.[/THINK]Yes."
    assert decode_with_tags([], tags, decode) == ""


@pytest.mark.parametrize("token", ["<think>", "[/THINK]", "<|channel|>", "<|END_THINKING|>", "<my_thought>"])
def test_thinking_tags_among_special_tokens(token):
    assert is_thinking_tag(token)


@pytest.mark.parametrize("token", ["<|im_end|>", "</s>", "<pad>", "[INST]", "<|eot_id|>"])
def test_other_special_tokens(token):
    assert not is_thinking_tag(token)
