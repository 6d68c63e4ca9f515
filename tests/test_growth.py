"""Every function that reads untrusted text does so in linear time, whatever the text repeats.

A new reader is a row of READERS, and a new attack a row of HOSTILE.
"""

import time
from contextlib import suppress

import pytest

from grm_service import chat_templates, content, row_values, thinking
from grm_service.addresses import without_credentials
from grm_service.content_parts import block, quote
from grm_service.engines.remote.completions import parse_completion
from grm_service.engines.remote.error_replies import ErrorReply, find_error
from grm_service.engines.remote.field_rules import FieldRules
from grm_service.engines.remote.reply_bodies import Unreadable, parse_body
from grm_service.errors import GRMError
from grm_service.evaluation import formats, pair_rows
from grm_service.improving.revision_prompts import revision_prompt
from grm_service.judging import labels, parse, soft_scores
from grm_service.judging.completion import complete
from grm_service.judging.prompt import render
from grm_service.principles import lint, observed, query_kind, wording
from grm_service.profiles.catalog import load_catalog
from grm_service.types import Message

PROFILES = load_catalog().profiles
GENERIC = PROFILES["generic-judge"]
BOX = "\nScores: \\boxed{5, 6}"
SENT = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 5, "temperature": 0, "top_p": 1.0, "seed": 0}

READERS = {
    "parse": lambda s: parse.parse(f"a{s}b{BOX}", 2, GENERIC),
    "parse, in the line": lambda s: parse.parse(f"Criteria:\n1. a\nAnalysis: b\n{s} Scores: \\boxed{{5, 6}}", 2, GENERIC),
    "parse, in the box": lambda s: parse.parse(f"Scores: \\boxed{{{s}}}", 2, GENERIC),
    "parse, behind the box": lambda s: parse.parse(f"Final answer: \\boxed{{5, 6}}{s}", 2, GENERIC),
    "parse, alone": lambda s: parse.parse(s, 2, GENERIC),
    "before_closing": lambda s: parse.before_closing(s, GENERIC),
    "before_closing, label": lambda s: parse.before_closing(f"{s}\nScores: {s}", GENERIC),
    "parse_principles": parse.parse_principles,
    "parse_principles, item": lambda s: parse.parse_principles(f"1. a{s}b\n2. c"),
    "find_label": lambda s: labels.find_label(s, GENERIC),
    "score_offsets": soft_scores.score_offsets,
    "split_thinking": thinking.split_thinking,
    "split_thinking, opened": lambda s: thinking.split_thinking(s, (), True),
    "split_thinking, bare": lambda s: thinking.split_thinking("analysisWe" + s),
    "has_start_tag": thinking.has_start_tag,
    "opens_thinking": thinking.opens_thinking,
    "render, response": lambda s: render(GENERIC, [Message("user", "q")], [s, "b"]),
    "render, deepseek": lambda s: render(PROFILES["deepseek-grm-27b"], [Message("user", s)], ["a", "b"]),
    "parse_prompt": chat_templates.parse_prompt,
    "parse_conversation": chat_templates.parse_conversation,
    "extract_response": lambda s: chat_templates.extract_response(f" {s}", f"{s}x"),
    "extract_response, spaced": lambda s: chat_templates.extract_response(" ".join(s), s[: len(s) // 2]),
    "join_prefill": lambda s: chat_templates.join_prefill(s, s),
    "strip_end_tokens": chat_templates.strip_end_tokens,
    "to_text": lambda s: content.to_text([s, {"type": "reasoning", "text": s}, {"type": "tool_use", "name": s, "input": s}]),
    "to_response": lambda s: content.to_response(s, lenient=True),
    "block": lambda s: block("tool call", s),
    "quote": quote,
    "comparable": row_values.comparable,
    "refuse_turns_as_text": lambda s: row_values.refuse_turns_as_text("x", s, f"[{{'role': {s}"),
    "_split_dialogue": pair_rows._split_dialogue,
    "list as text": lambda s: formats._LIST_AS_TEXT.fullmatch(f"['{s}"),
    "kind_of": query_kind.kind_of,
    "lint": lambda s: lint.lint([s], s),
    "query_content": lint.query_content,
    "specific_words": lint.specific_words,
    "normalise": wording.normalise,
    "is_english": wording.is_english,
    "parse_body": lambda s: parse_body(s.encode()),
    "parse_body, events": lambda s: parse_body(b"data: {}\n" + s.encode()),
    "parse_completion": lambda s: parse_completion({"choices": [{"message": {"content": s, "reasoning": [s]}}], "usage": {}}),
    "ErrorReply": lambda s: ErrorReply.of({"error": {"message": s, "code": s, "param": s}}).refusal("x"),
    "ErrorReply, text": lambda s: ErrorReply.of(s, 400).refusal("x"),
    "find_error": lambda s: find_error({"error": s, "choices": [{"finish_reason": s}]}),
    "FieldRules": lambda s: FieldRules().after(s[:600], SENT),
    "without_credentials": without_credentials,
}

HOSTILE = {
    "#": ("", "#", ""), "newlines": ("", "\n", ""), "spaces": ("a", " ", "b"), "tabs": ("a", "\t", "b"), "*": ("", "*", "x"), "$": ("", "$", "x"), "_": ("", "_", "x"),
    "# ": ("", "# ", "x"), "newlines, text": ("", "\n", "Analysis x"), "weight, spaces": ("weight", " ", "x"), "weight": ("", "weight ", ""),
    "weight: 1": ("", "(weight: 1", ""), "(": ("", "(", ""), "- ": ("", "- ", ""), "1. ": ("", "1. ", ""), "1. x": ("", "1. ", "x"), "lines": ("", "x\n", ""), "blank lines": ("", " \n", "x"),
    "items": ("", "1. a b\n", ""), "item, lines": ("1) a\n", "x\n", ""), "\\boxed{": ("", "\\boxed{", ""), "\\boxed{}": ("", "\\boxed{}", ""), "\\boxed{1},": ("", "\\boxed{1},", ""), "\\boxed{1}, ": ("\\boxed{1}", ",          ", ""),
    "\\boxed{\\text{": ("", "\\boxed{\\text{", ""), "\\boxed{1}\\n": ("", "Scores: \\boxed{1}\n", ""), "\\boxed{ $": ("\\boxed{1}", " $", ""), "}": ("\\boxed{1", "}", ""), "\\b": ("", "\\b", ""), "\\ ": ("", "\\" + 50 * " ", ""), "\\": ("", "\\", ""),
    "x, ": ("", "x , ", ""), "1, ": ("", "1 , ", ""), "digits": ("", "1", ""), "1;": ("", "1;", ""), "odd digits": ("", "٣", ""), "score ": ("", "score ", ""), "score!": ("score", "!", "x"), "scores:": ("", "Scores:\n", ""), "Scores: ": ("", "Scores: ", ""),
    "the ": ("", "the ", "x"), "wide": ("", "评分", ""), "Specific Criteria": ("", "Specific Criteria\n", ""), "Analysis***": ("Analysis", "*", "x"), "Analysis": ("", "Analysis ", ""), "Analysis:": ("", "Analysis:\n", ""), "[Analysis": ("", "[", "Analysis"),
    ". ": ("", ". ", ""), ".": ("", ".", "x"), "。": ("", "。", "x"), ".)": (".", ")", "x"), "quotes": ("", '"', ""), "「": ("", "「", ""), "“": ("", "“ ", "”"), "'": ("", "'", ""),
    "<think>": ("", "<think>", ""), "</think>": ("", "</think>", ""), "<think></think>": ("", "<think>x</think>", ""), "<think></reasoning>": ("", "<think></reasoning>", ""), "<thin": ("", "<thin", ""), "assistant": ("", "assistant  ", ""), "assistant spaces": ("assistant", " ", "x"), "analysis": ("", " ", "analysis"),
    "<|": ("", "<|", ""), "<|||": ("<", "|", ""), "<|w": ("", "<|a", ""), "<|www": ("<|", "a", ""), "<": ("", "<", ""), "<||||": ("", "<" + 64 * "|", ""), "<answer": ("", "<answer", ""), "<final ": ("", "<final_", ""), "<<SYS>>": ("", "<<SYS>>", ""), "[INST": ("", "[INST]", ""), "INST": ("<s>", "[INST]", ""),
    "[The ": ("", "[The ", ""), "[The spaces": ("[The", " ", ""), "## Response": ("", "## Response 1", ""), "## ": ("", "## ", ""), "##\\n": ("", "##" + 40 * "\n", ""), "The Begin": ("", "[The Begin of Response ", "1]"), "#### Context": ("", "#### Conversation Context ", "####"),
    "im turns": ("", "<|im_start|>user\nx<|im_end|>\n", ""), "im_start": ("<|im_start|>", "a", ""), "im_starts": ("", "<|im_start|>a", ""), "im_end": ("<|im_start|>user\n", "<|im_end|>" + 30 * " ", ""), "im_end newlines": ("<|im_start|>user\n<|im_end|>", "\n", ""), "</s> spaces": ("<s>[INST] a [/INST]</s>", " ", ""),
    "</s>": ("<s>[INST] a [/INST]", "</s> <s> ", ""), "User": ("", "<｜User｜>", ""), "bos User": ("<｜begin▁of▁sentence｜>", "a<｜end▁of▁sentence｜>", "<｜User｜>"), "phi": ("<|user|>\n", "\n", ""), "phi ends": ("<|user|>\n", "<|end|> ", ""), "ends": ("x", "<|im_end|> ", ""), "header": ("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|> ", ""),
    "1.1": ("", "1.", "1a"), "11.": ("", "11.", "é"), "a'": ("", "a'", ""), "words": ("", "be ", ""), "it is": ("", "it is ", ""), "w(": ("", "a", "("), "emoji": ("", "\U0001f600", ""), "İ": ("", "İ", ""), "ﬃ": ("", "ﬃ", ""), "1+": ("", "1 ", "how"),
    "`": ("", "`", "x"), "~~~": ("", "~~~ ", "x"), "``` tool": ("", "```tool call\n", ""), "``` ": ("```", " ", "tool"), "[{": ("", "[{", ""), "[": ("", "[", ""), "{": ("", "{", ""), "]": ("[", "]", ""), "[{'role'": ("[{'role': ", "}", "x"), "['": ("['", "'", "x"), "}]": ("[{'role': ", "}] ", "x"),
    "['']": ("", "'] ", "x"), "Human": ("", "\n\nHuman: ", ""), "Human:Assistant": ("", "\n\nHuman: a\n\nAssistant: b", ""), "://": ("", "://a:b/", ""), "@": ("", "@", ""), ":/": ("://a:", "/ ", "x"), "data:": ("", "data: {}\n", ""), "event": ("", "event: error\n", ""), "{\"a\":": ("", '{"a":', ""), "1,": ("[", "1,", "1]"),
    "key not": ("", "api key ", ""), "model": ("", "model ", ""), "token": ("", "tokens ", ""), "exceed": ("", "exceeds maximum ", ""), "context": ("", "context length ", ""), "combining": ("a", "\u0301", ""), "decomposed": ("", "e\u0323\u0301", ""), "hangul": ("", "가", ""),
}  # fmt: skip


def hostile(prefix, unit, suffix, length):
    return prefix + unit * ((length - len(prefix) - len(suffix)) // len(unit)) + suffix


def cpu_seconds(read, text):
    began = time.process_time()
    with suppress(GRMError, ValueError, Unreadable):
        read(text)
    return time.process_time() - began


if __name__ == "__main__":
    import sys
    top = int(sys.argv[1])
    total = 0
    for rn, read in READERS.items():
        if len(sys.argv) > 2 and not rn.startswith(sys.argv[2]): continue
        worst = (0, "")
        for hn, parts in HOSTILE.items():
            before = None
            length = 2000
            while length <= top:
                try:
                    t = cpu_seconds(read, hostile(*parts, length))
                except Exception as e:
                    print("RAISED", rn, hn, type(e), str(e)[:100]); break
                total += t
                worst = max(worst, (t / length, hn, round(t, 3)))
                if before is not None and t > 0.03 and t > 20 * before:
                    print(f"SUPERLINEAR {rn!r} {hn!r} n={length} {before:.4f} -> {t:.3f}", flush=True); break
                before = t
                length *= 8
        print(f"   {rn}: worst {worst[0]*1e6:.3f} us/char {worst[1:]} total {total:.1f}", flush=True)
