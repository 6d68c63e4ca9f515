"""Chat-templated text taken apart again: who said what, and where the response begins.

Trainers hand over what the policy saw and wrote, control tokens included. A text is in the template that it
begins with. Only that template's turns are looked for, and only where one may begin: behind the end of
another. So what somebody quotes, or a policy writes to look like turns, stays text wherever the template can
tell. What is in no template known here is one user's message.
"""

from __future__ import annotations

import re

from grm_service.types import Message, Role

_FIRST = ("<s>", "<bos>", "<|begin_of_text|>", "<｜begin▁of▁sentence｜>", "[gMASK]<sop>")
_LAST = (
    *("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>"),
    *("<|end_of_text|>", "</s>", "<eos>", "<｜end▁of▁sentence｜>"),
)
# Templates that name who speaks: ChatML (Qwen, SmolLM, Phi-4), Llama 3, Gemma, Phi-3 with Zephyr and GLM.
_NAMED = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?:\A|<\|im_end\|>\s*)<\|im_start\|>(\w+)(?:\n|<\|im_sep\|>)",
        r"(?:\A|<\|eo[tm]_id\|>\s*)<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n",
        r"(?:\A|<end_of_turn>\s*)<start_of_turn>(\w+)\n",
        r"(?:\A|(?:<\|end\|>|<\|endoftext\|>|</s>)\s*|\n)<\|(system|user|assistant)\|>\n?"
        r"|<\|(user|assistant)\|>\n",
    )
)
# Templates that put a user's turn between two tokens: Mistral with Llama 2, DeepSeek. Behind the token that
# begins a text (the first), the system's words come before the first user's.
_PAIRED = (
    (
        "<s>",
        ("[INST]", "[SYSTEM_PROMPT]"),
        re.compile(
            r"(?:\A(?P<system>.*?)|</s>\s*(?:<s>\s*)?)\[INST\](?P<user>.*?)(?P<end>\[/INST\]|\Z)", re.DOTALL
        ),
    ),
    (
        "<｜begin▁of▁sentence｜>",
        ("<｜User｜>",),
        re.compile(
            r"(?:\A(?P<system>.*?)|<｜end▁of▁sentence｜>)<｜User｜>(?P<user>.*?)(?P<end><｜Assistant｜>|\Z)",
            re.DOTALL,
        ),
    ),
)
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "assistant": "assistant",
    "model": "assistant",
}
_Said = tuple[Role, str]


def role_of(name: str) -> Role:
    """Who speaks, by what templates and clients call them; tools speak to the policy as users do."""
    return _ROLES.get(name, "user")


def conversation(prompt: str) -> tuple[Message, ...]:
    """The turns of a prompt, without the start of the answer that is to come; at least one."""
    said = turns(prompt)
    asked = said[:-1] if said[-1].role == "assistant" else said
    return asked or (Message("user", prompt),)


def response(text: str, prompt: str) -> str:
    """What was written after the prompt, and what the prompt had begun of it (such as `<think>`).

    `text` is prompt and response; white space may differ, as it does after decoding. Raises ValueError where
    it does not begin with the prompt: it was cut.
    """
    return continued(prompt, text[_end_of(prompt, text) :])


def continued(prompt: str, written: str) -> str:
    """The response of which the prompt has the beginning, if any, and `written` the rest."""
    *_, (role, begun) = _said(prompt) or [("user", "")]
    return bare(begun + written if role == "assistant" else written)


def bare(text: str) -> str:
    """Without white space around it and the control tokens behind it."""
    end = len(text.rstrip())
    while found := next((token for token in _LAST if text.endswith(token, 0, end)), ""):
        end -= len(found)
        while end and text[end - 1].isspace():
            end -= 1
    return text[:end].strip()


def turns(prompt: str) -> tuple[Message, ...]:
    """All turns of a templated text; at least one."""
    if not (said := _said(prompt)):
        return (Message("user", _begun(prompt)[1].strip()),)
    *before, (role, last) = said
    return (*(Message(role, text.strip()) for role, text in before), Message(role, bare(last)))


def _begun(prompt: str) -> tuple[str, str]:
    """The token that begins a text, if any, and what follows."""
    text = prompt.lstrip()
    first = next(filter(text.startswith, _FIRST), "")
    return first, text.removeprefix(first).lstrip()


def _said(prompt: str) -> list[_Said]:
    """The turns as they stand in their template, none where there is none."""
    first, text = _begun(prompt)
    for named in _NAMED:
        if named.match(text):
            return _named(list(named.finditer(text)), text)
    for token, begins, paired in _PAIRED:
        if text.startswith(begins) or (first == token and begins[0] in text):
            return _paired(list(paired.finditer(text)), text)
    return []


def _named(begins: list[re.Match[str]], text: str) -> list[_Said]:
    names = (next(filter(None, begin.groups())).lower() for begin in begins)
    return [(role_of(name), rest) for name, rest in zip(names, _rests(begins, text), strict=True)]


def _paired(users: list[re.Match[str]], text: str) -> list[_Said]:
    said: list[_Said] = []
    for user, rest in zip(users, _rests(users, text), strict=True):
        system, asked = _system(user["system"] or "", user["user"])
        said += [("system", system)] if system else []
        said.append(("user", asked))
        if user["end"]:
            said.append(("assistant", rest))
    return said


def _rests(found: list[re.Match[str]], text: str) -> list[str]:
    """What stands between each find and the next."""
    ends = [each.start() for each in found[1:]] + [len(text)]
    return [text[each.end() : end] for each, end in zip(found, ends, strict=False)]


def _system(before: str, asked: str) -> tuple[str, str]:
    """The system's words and the user's: Llama 2 has the former inside the user's turn."""
    asked = asked.lstrip()
    if asked.startswith("<<SYS>>"):
        before, _, asked = asked.removeprefix("<<SYS>>").partition("<</SYS>>")
    return before.strip().removeprefix("[SYSTEM_PROMPT]").removesuffix("[/SYSTEM_PROMPT]"), asked


def _end_of(prompt: str, text: str) -> int:
    """Where in the text the prompt ends that it begins with. Raises ValueError."""
    if text.startswith(prompt):
        return len(prompt)
    at = 0
    for char in "".join(prompt.split()):
        while at < len(text) and text[at].isspace():
            at += 1
        if not text.startswith(char, at):
            raise ValueError(
                "the text does not begin with its prompt, which was cut to the model's length: "
                "allow more tokens"
            )
        at += 1
    return at
