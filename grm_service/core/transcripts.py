"""Chat-templated text taken apart again: who said what, and where the response begins.

Trainers hand over what the policy saw and wrote, control tokens included. What is in no template known here
is one user's message.
"""

from __future__ import annotations

import re

from grm_service.types import Message, Role

# How turns begin: ChatML (Qwen, SmolLM, ...), Llama 3, Gemma, Phi and Zephyr, DeepSeek, Mistral and Llama 2.
_BEGIN = re.compile(
    r"<\|im_start\|>(\w+)\n"
    r"|<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n"
    r"|<start_of_turn>(\w+)\n"
    r"|<\|(system|user|assistant)\|>\n?"
    r"|<｜(User|Assistant)｜>"
    r"|(\[/?INST\])"
)
_FIRST = ("<s>", "<bos>", "<|begin_of_text|>", "<｜begin▁of▁sentence｜>")
_LAST = (
    *("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "<|end_of_text|>"),
    *("</s>", "<eos>", "<｜end▁of▁sentence｜>"),
)
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "assistant": "assistant",
    "model": "assistant",
    "[/inst]": "assistant",
}


def conversation(prompt: str) -> tuple[Message, ...]:
    """The turns of a prompt, without the start of the answer that is to come; at least one."""
    said = turns(prompt)
    asked = said[:-1] if said[-1].role == "assistant" else said
    return asked or (Message("user", prompt),)


def response(text: str, prompt: str) -> str:
    """What was written after the prompt, and what the prompt had begun of it (such as `<think>`).

    `text` is prompt and response. Raises ValueError where it does not begin with the prompt: it was cut.
    """
    if not text.startswith(prompt):
        raise ValueError(
            "the text does not begin with its prompt, which was cut to the model's length: allow more tokens"
        )
    last = turns(prompt)[-1]
    return bare((last.content if last.role == "assistant" else "") + text[len(prompt) :])


def bare(text: str) -> str:
    """Without the control tokens and white space around it."""
    text = text.strip()
    end = len(text)
    while found := next((token for token in _LAST if text.endswith(token, 0, end)), ""):
        end -= len(found)
        while end and text[end - 1].isspace():
            end -= 1
    begin = next((len(token) for token in _FIRST if text.startswith(token)), 0)
    return text[begin:end].strip()


def turns(prompt: str) -> tuple[Message, ...]:
    """All turns of a templated text; at least one."""
    begins = list(_BEGIN.finditer(prompt))
    if not begins:
        return (Message("user", bare(prompt)),)
    ends = [begin.start() for begin in begins[1:]] + [len(prompt)]
    before = bare(prompt[: begins[0].start()])
    said = [Message("system", before)] if before else []
    for begin, end in zip(begins, ends, strict=True):
        name = next(filter(None, begin.groups())).lower()
        said.append(Message(_ROLES.get(name, "user"), bare(prompt[begin.end() : end])))
    return tuple(said)
