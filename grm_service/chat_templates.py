"""Parse text in a chat template back into messages, and separate a response from its prompt.

Trainers send what the policy read and wrote, control tokens included. The template is recognized by the
beginning of the text. Only that template's turns are parsed, and only where one may begin: after the end of
another. So quoted control tokens, or turns that a policy imitates, remain text as far as the template allows.
Text in no known template is a single user message.
"""

from __future__ import annotations

import re

from grm_service.content import normalize_role
from grm_service.types import Message, Role

_BOS_TOKENS = ("<s>", "<bos>", "<|begin_of_text|>", "<｜begin▁of▁sentence｜>", "[gMASK]<sop>")
_END_TOKENS = (
    *("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>"),
    *("<|end_of_text|>", "</s>", "<eos>", "<｜end▁of▁sentence｜>"),
)
# Templates that name the role: ChatML (Qwen, SmolLM, Phi-4), Llama 3, Gemma, Phi-3 with Zephyr and GLM.
_ROLE_HEADERS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?:\A|<\|im_end\|>\s*)<\|im_start\|>(\w+)(?:\n|<\|im_sep\|>)",
        r"(?:\A|<\|eo[tm]_id\|>\s*)<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n",
        r"(?:\A|<end_of_turn>\s*)<start_of_turn>(\w+)\n",
        r"(?:\A|(?:<\|end\|>|<\|endoftext\|>|</s>)\s*|\n)<\|(system|user|assistant)\|>\n?"
        r"|<\|(user|assistant)\|>\n",
    )
)
# Templates that put a user turn between two tokens: Mistral with Llama 2, DeepSeek. The system prompt stands
# between the BOS token (the first field) and the first user turn.
_USER_TURNS = (
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
_Turn = tuple[Role, str]


def parse_prompt(prompt: str) -> tuple[Message, ...]:
    """Return the messages of a prompt, at least one, without a final assistant turn."""
    messages = parse_conversation(prompt)
    before = messages[:-1] if messages[-1].role == "assistant" else messages
    return before or (Message("user", prompt),)


def parse_conversation(text: str) -> tuple[Message, ...]:
    """Return all messages of a text, at least one."""
    if not (turns := _parse(text)):
        return (Message("user", _split_bos(text)[1].strip()),)
    *before, (role, last) = turns
    return (
        *(Message(role, content.strip()) for role, content in before),
        Message(role, strip_end_tokens(last)),
    )


def extract_response(text: str, prompt: str) -> str:
    """Return the response in a text that consists of prompt and completion, with the prompt's prefill.

    White space may differ between prompt and text, as it does after decoding. Raises ValueError if the text
    does not begin with the prompt, because it was truncated.
    """
    return join_prefill(prompt, text[_prompt_end(prompt, text) :])


def join_prefill(prompt: str, completion: str) -> str:
    """Return the response: the prefill at the end of the prompt (such as `<think>`), then the completion."""
    *_, (role, prefill) = _parse(prompt) or [("user", "")]
    return strip_end_tokens(prefill + completion if role == "assistant" else completion)


def strip_end_tokens(text: str) -> str:
    """Return a text without the control tokens at its end and the white space around it."""
    # An index instead of slices: texts with many end tokens would take quadratic time.
    end = len(text.rstrip())
    while token := next((token for token in _END_TOKENS if text.endswith(token, 0, end)), ""):
        end -= len(token)
        while end and text[end - 1].isspace():
            end -= 1
    return text[:end].strip()


def _split_bos(text: str) -> tuple[str, str]:
    """Return the BOS token, or "", and the text after it."""
    text = text.lstrip()
    bos = next(filter(text.startswith, _BOS_TOKENS), "")
    return bos, text.removeprefix(bos).lstrip()


def _parse(text: str) -> list[_Turn]:
    """Return the turns of a text with their white space and end tokens; none if no template matches."""
    bos, text = _split_bos(text)
    for header in _ROLE_HEADERS:
        if header.match(text):
            return _parse_role_headers(list(header.finditer(text)), text)
    for template_bos, starts, user_turn in _USER_TURNS:
        # After a BOS token, an unmarked system prompt may come before the first user turn.
        if text.startswith(starts) or (bos == template_bos and starts[0] in text):
            return _parse_user_turns(list(user_turn.finditer(text)), text)
    return []


def _parse_role_headers(headers: list[re.Match[str]], text: str) -> list[_Turn]:
    names = (next(filter(None, header.groups())).lower() for header in headers)
    return [(normalize_role(name), rest) for name, rest in zip(names, _between(headers, text), strict=True)]


def _parse_user_turns(matches: list[re.Match[str]], text: str) -> list[_Turn]:
    turns: list[_Turn] = []
    for match, rest in zip(matches, _between(matches, text), strict=True):
        system, user = _split_system(match["system"] or "", match["user"])
        turns += [("system", system)] if system else []
        turns.append(("user", user))
        if match["end"]:
            turns.append(("assistant", rest))
    return turns


def _between(matches: list[re.Match[str]], text: str) -> list[str]:
    """Return the text from each match to the next, and from the last match to the end."""
    ends = [match.start() for match in matches[1:]] + [len(text)]
    return [text[match.end() : end] for match, end in zip(matches, ends, strict=False)]


def _split_system(before: str, user: str) -> tuple[str, str]:
    """Return the system prompt and the user turn; Llama 2 has the former inside the latter."""
    user = user.lstrip()
    if user.startswith("<<SYS>>"):
        before, _, user = user.removeprefix("<<SYS>>").partition("<</SYS>>")
    return before.strip().removeprefix("[SYSTEM_PROMPT]").removesuffix("[/SYSTEM_PROMPT]"), user


def _prompt_end(prompt: str, text: str) -> int:
    """Return the offset in the text at which its prompt ends. Raises ValueError."""
    if text.startswith(prompt):
        return len(prompt)
    # Decoding may add or drop white space around control tokens: compare without it.
    at = 0
    for char in "".join(prompt.split()):
        while at < len(text) and text[at].isspace():
            at += 1
        if not text.startswith(char, at):
            raise ValueError(
                "the text does not begin with its prompt; the prompt was probably cut to the model's "
                "maximum length: allow more tokens"
            )
        at += 1
    return at
