r"""Patterns of the control tokens in the chat templates of usual model families.

They are matched against folded text (look_alikes.py) without regard to case. Each has one group: where a
space may break it.
"""

from __future__ import annotations

_BAR = r"(?:\||i1\u20442œ?)"
"""The bar of a control token; DeepSeek's full-width bar too, also if its bytes were read as Latin-1."""
_TAGS = (
    rf"{_BAR}[^<>\s](?:[^<>\n]{{0,64}}[^<>\s])?{_BAR}",
    rf"/?{_BAR}[\w./:-]{{1,40}}|/?[\w./:-]{{1,40}}{_BAR}",  # Gemma 4
    r"/?s|(?:bos|eos|pad|unk|mask|cls|sep|sop|eop|eod|eot|eoh|eoa|eosys)(?:_token)?",
    r"/?(?:start|end|begin|beginning)_of_\w{1,16}",  # Gemma
    r"(?:unused|reserved|extra|extra_id|special|tokens_unused|reserved_token)_?\d{1,6}",
    r"(?:image|audio|video|img)_(?:soft_)?(?:token|pad|context)|im_(?:patch|start|end)",
    r"/?(?:\w{1,16}:)?(?:tool|function)_(?:calls?|responses?|results?|outputs?)|/?arg_(?:key|value)",
    r"/?(?:toolcall|available_tools)",  # Nemotron
    r"/?seed:\w{1,32}",
    r"_(?:user|system|bot)|/?role",  # TeleChat; Ling
    r"fim_(?:prefix|middle|suffix|pad)|repo_?name|file_sep|gh_stars|empty_output|issue_(?:start|comment|closed)",
    r"jupyter_(?:start|text|code|output|script)|commit_(?:before|msg|after)",  # StarCoder, Granite, SmolLM
    r"</?sys>",
)
_BRACKETED = (
    r"/?(?:inst|tool_calls|tool_results|tool_content|available_tools|system_prompt|model_settings|call_id)",
    # Words that code has in brackets too, `image[mask]`, are tokens in capital letters only.
    r"(?-i:/?(?:IMG(?:_BREAK|_END)?|(?:BEGIN_)?AUDIO|THINK|ARGS|PREFIX|MIDDLE|SUFFIX|BOS|EOS|EOT|PAD|UNK|CLS|SEP|MASK))",
    r"(?-i:(?:BEGIN|END) FINAL RESPONSE)",  # Apriel
    r"unused(?:_token)?_?\d{1,6}|control_\d{1,4}",  # InternLM, Mistral
    r"[gs]mask",  # GLM
    rf"{_BAR}[^\[\]\s]{{1,40}}{_BAR}",  # EXAONE
)
USUAL_TOKENS = (
    rf"(<(?!<<)(?:{'|'.join(_TAGS)})>)",
    rf"(\[(?:{'|'.join(_BRACKETED)})\])",
    r"(\|DSML\|)",  # DeepSeek
    r"(\[e~\[)",  # MiniMax
    r"(\](?:~!?b[\]\[]|![pd]~\[|<\][\w ]{1,24}\[>\[))",
    r"(>>(?-i:[A-Z_]{3,16})<<)",  # Falcon
    r"(/(?:no_?)?think(?!\w))",  # turns the thinking of Qwen, Nemotron and GLM on or off
)
