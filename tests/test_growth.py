"""Functions that read untrusted text take linear time, whatever the text repeats.

A new reader is a row of READERS, a new attack one of UNITS, which a text repeats, or of FRAMED: what begins a
text, what it repeats, and what ends it. The CPU time of a text is compared with that of one eight times as
long, where it is long enough to be measured.
"""

import gc
import logging
import re
import time
from contextlib import suppress
from itertools import pairwise

import pytest

from grm_service import chat_templates, content, row_values, thinking
from grm_service.addresses import without_credentials
from grm_service.audit.summary import summarise
from grm_service.content_parts import block, quote
from grm_service.engines.remote.completions import parse_completion
from grm_service.engines.remote.error_replies import ErrorReply, find_error
from grm_service.engines.remote.field_rules import FieldRules
from grm_service.engines.remote.reply_bodies import Unreadable, parse_body
from grm_service.errors import GRMError
from grm_service.evaluation import cells, formats, pair_rows
from grm_service.judging import labels, parse, soft_scores
from grm_service.judging.look_alikes import fold
from grm_service.judging.neutralising import chat_neutraliser, neutraliser
from grm_service.judging.prompt import render
from grm_service.log_lines import SAFE_LINES
from grm_service.principles import lint, query_kind, wording
from grm_service.printable import printable_json, printable_line
from grm_service.profiles.catalog import load_catalog
from grm_service.types import Message

PROFILES = load_catalog().profiles
GENERIC = PROFILES["generic-judge"]
BOX = "\nScores: \\boxed{5, 6}"
SENT = {
    "messages": [{"role": "user", "content": "x"}],
    "max_tokens": 5,
    "temperature": 0,
    "top_p": 1.0,
    "seed": 0,
}

READERS = {
    "parse": lambda s: parse.parse(f"a{s}b{BOX}", 2, GENERIC),
    "parse, in the line": lambda s: parse.parse(
        f"Criteria:\n1. a\nAnalysis: b\n{s} Scores: \\boxed{{5, 6}}", 2, GENERIC
    ),
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
    "neutraliser, generic": neutraliser(GENERIC),
    "neutraliser, smollm2": neutraliser(PROFILES["smollm2-judge"]),
    "chat_neutraliser": chat_neutraliser(("<custom>",)),
    "fold": fold,
    "printable_line": printable_line,
    "printable_json": printable_json,
    "log line": lambda s: SAFE_LINES.filter(logging.makeLogRecord({"msg": s})),
    "cell": cells.escape,
    "summarise": lambda s: summarise(
        {
            "route": "judge",
            "task": {
                "messages": [{"content": s}],
                "responses": [s],
                "principles": {"set_name": None, "items": [s], "mode": "self"},
            },
            "verdict": {"vote": {"rewards": [], "best": None, "agreement": None}},
            "reasons": [],
        }
    ),
    "parse_prompt": chat_templates.parse_prompt,
    "parse_conversation": chat_templates.parse_conversation,
    "extract_response": lambda s: chat_templates.extract_response(f" {s}", f"{s}x"),
    "extract_response, spaced": lambda s: chat_templates.extract_response(" ".join(s), s[: len(s) // 2]),
    "join_prefill": lambda s: chat_templates.join_prefill(s, s),
    "strip_end_tokens": chat_templates.strip_end_tokens,
    "to_text": lambda s: content.to_text(
        [s, {"type": "reasoning", "text": s}, {"type": "tool_use", "name": s, "input": s}]
    ),
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
    "parse_completion": lambda s: parse_completion(
        {"choices": [{"message": {"content": s, "reasoning": [s]}}], "usage": {}}
    ),
    "ErrorReply": lambda s: ErrorReply.of({"error": {"message": s, "code": s, "param": s}}).refusal("x"),
    "ErrorReply, text": lambda s: ErrorReply.of(s, 400).refusal("x"),
    "find_error": lambda s: find_error({"error": s, "choices": [{"finish_reason": s}]}),
    "FieldRules": lambda s: FieldRules().after(s[:600], SENT),
    "without_credentials": without_credentials,
}

UNITS = [
    "#", "\n", "weight ", "(weight: 1", "(", "- ", "1. ", "x\n", "1. a b\n", "\\boxed{", "\\boxed{}",
    "\\boxed{1},", "\\boxed{\\text{", "Scores: \\boxed{1}\n", "\\b", "\\" + 50 * " ", "\\", "x , ", "1 , ",
    "1", "1;", "٣", "score ", "Scores:\n", "Scores: ", "评分", "Specific Criteria\n", "Analysis ",
    "Analysis:\n", ". ", "\"", "「", "'", "<think>", "</think>", "<think>x</think>", "<think></reasoning>",
    "<thin", "assistant  ", "<|", "<|a", "<", "<" + 64 * "|", "<answer", "<final_", "<<SYS>>", "[INST]",
    "[The ", "## Response 1", "## ", "##" + 40 * "\n", "<|im_start|>user\nx<|im_end|>\n", "<|im_start|>a",
    "<｜User｜>", "a'", "be ", "it is ", "😀", "İ", "ﬃ", "```tool call\n", "[{", "[", "{", "\n\nHuman: ",
    "\n\nHuman: a\n\nAssistant: b", "://a:b/", "@", "data: {}\n", "event: error\n", "{\"a\":", "api key ",
    "model ", "tokens ", "exceeds maximum ", "context length ", "ẹ́", "가",
]  # fmt: skip
FRAMED = [
    ("a", " ", "b"), ("a", "\t", "b"), ("", "*", "x"), ("", "$", "x"), ("", "_", "x"), ("", "# ", "x"),
    ("", "\n", "Analysis x"), ("weight", " ", "x"), ("", "1. ", "x"), ("", " \n", "x"),
    ("1) a\n", "x\n", ""), ("\\boxed{1}", ",          ", ""), ("\\boxed{1}", " $", ""),
    ("\\boxed{1", "}", ""), ("score", "!", "x"), ("", "the ", "x"), ("Analysis", "*", "x"),
    ("", "[", "Analysis"), ("", ".", "x"), ("", "。", "x"), (".", ")", "x"), ("", "“ ", "”"),
    ("assistant", " ", "x"), ("", " ", "analysis"), ("<", "|", ""), ("<|", "a", ""), ("<s>", "[INST]", ""),
    ("[The", " ", ""), ("", "[The Begin of Response ", "1]"), ("", "#### Conversation Context ", "####"),
    ("<|im_start|>", "a", ""), ("<|im_start|>user\n", "<|im_end|>" + 30 * " ", ""),
    ("<|im_start|>user\n<|im_end|>", "\n", ""), ("<s>[INST] a [/INST]</s>", " ", ""),
    ("<s>[INST] a [/INST]", "</s> <s> ", ""),
    ("<｜begin▁of▁sentence｜>", "a<｜end▁of▁sentence｜>", "<｜User｜>"), ("<|user|>\n", "\n", ""),
    ("<|user|>\n", "<|end|> ", ""), ("x", "<|im_end|> ", ""),
    ("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|> ", ""), ("", "1.", "1a"),
    ("[The Begin of Response", " ", "x"), ("\n", "*", "user"), ("## ", "*", "x"),
    ("", "11.", "é"), ("", "a", "("), ("", "1 ", "how"), ("", "`", "x"), ("", "~~~ ", "x"),
    ("```", " ", "tool"), ("[", "]", ""), ("[{'role': ", "}", "x"), ("['", "'", "x"),
    ("[{'role': ", "}] ", "x"), ("", "'] ", "x"), ("://a:", "/ ", "x"), ("[", "1,", "1]"), ("a", "́", ""),
]  # fmt: skip
HOSTILE = [*(("", unit, "") for unit in UNITS), *FRAMED]


LOOPS = [("", unit, "") for unit in ("#", "\n", " ", "1. a b\n")]
JUDGE_OUTPUT = (
    "parse",
    "parse, alone",
    "parse, in the line",
    "before_closing",
    "parse_principles",
    "split_thinking",
)
FLOOR_S = 0.03
FACTOR = 24
"""Between the 8 of linear and the 64 of quadratic time."""


def hostile(start, unit, end, length):
    return start + unit * ((length - len(start) - len(end)) // len(unit)) + end


def cpu_seconds(read, text, times=1):
    gc.disable()  # a collection of all objects has nothing to do with the text
    try:
        return min(cpu_seconds_once(read, text) for _ in range(times))
    finally:
        gc.enable()


def cpu_seconds_once(read, text):
    began = time.process_time()
    with suppress(GRMError, ValueError, Unreadable):
        read(text)
    return time.process_time() - began


def is_superlinear(read, parts, lengths):
    """Return whether time grows faster than the text between two of the lengths, each 8 times the last."""
    texts = [hostile(*parts, length) for length in lengths]
    for short, long in pairwise(texts):
        if cpu_seconds(read, long) < FLOOR_S:
            continue
        if cpu_seconds(read, long, 3) > max(FLOOR_S, FACTOR * cpu_seconds(read, short, 3)):
            return True
    return False


def superlinear(reader, attacks, lengths):
    return [parts for parts in attacks if is_superlinear(READERS[reader], parts, lengths)]


@pytest.mark.parametrize("reader", READERS)
def test_time_grows_linearly(reader):
    assert superlinear(reader, HOSTILE, (2_500, 20_000)) == []


@pytest.mark.parametrize("reader", JUDGE_OUTPUT)
def test_million_characters_take_linear_time(reader):
    assert superlinear(reader, LOOPS, (15_625, 125_000, 1_000_000)) == []


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_millions_of_any_kind_take_linear_time(reader):
    assert superlinear(reader, HOSTILE, (2_000, 16_000, 128_000, 1_024_000)) == []


def test_quadratic_time_is_noticed():
    assert is_superlinear(re.compile("#+x").search, ("", "#", ""), (2_000, 16_000))
