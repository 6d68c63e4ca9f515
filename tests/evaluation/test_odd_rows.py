"""Odd rows: read for what they mean, left out with a reason, or refused with file and line."""

import json
import math

import pyarrow
import pytest
from pyarrow import parquet

from grm_service.errors import BadTask
from grm_service.evaluation.loading import load
from tests.evaluation.test_formats import (
    HH,
    JUDGEBENCH,
    OWN,
    PAIR,
    PPE_CORRECTNESS,
    PPE_HUMAN,
    REWARDBENCH,
    REWARDBENCH2,
    RM_BENCH,
    RMB_BON,
    RMB_PAIR,
)

GOOD = {"id": "good", "messages": "Name a prime.", "responses": ["2", "4"], "preferred": 0}


def system(text):
    return {"role": "system", "content": text}


def user(text):
    return {"role": "user", "content": text}


def answer(text, **fields):
    return {"role": "assistant", "content": text, **fields}


def call(name, arguments):
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


def load_rows(folder, *rows, format_=None):
    file = folder / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load(str(file), format_)


def turns_of(item):
    return [(turn.role, turn.content) for turn in item.messages]


EARLIER = [system("One word."), user("Hello in German?"), answer("Hallo.")]
PAIRED = {"prompt": "Q", "chosen": "yes", "rejected": "no"}

READ = {
    "conversation holds the prompt": (
        {
            "prompt": "In French?",
            "chosen": [*EARLIER, user("In French?"), answer("Bonjour.")],
            "rejected": [*EARLIER, user("In French?"), answer("Hm.")],
        },
        [
            ("system", "One word."),
            ("user", "Hello in German?"),
            ("assistant", "Hallo."),
            ("user", "In French?"),
        ],
        ("Bonjour.", "Hm."),
    ),
    "conversation begins with the prompt": (
        {
            "prompt": [user("Plan a trip.")],
            "chosen": [user("Plan a trip."), answer("Where to?"), user("Rome."), answer("yes")],
            "rejected": [user("Plan a trip. "), answer("Where to?"), user("Rome."), answer("no")],
        },
        [("user", "Plan a trip."), ("assistant", "Where to?"), ("user", "Rome.")],
        ("yes", "no"),
    ),
    "turns behind the prompt": (
        {
            "prompt": [user("Plan a trip.")],
            "chosen": [answer("Where to?"), user("Rome."), answer("yes")],
            "rejected": [answer("Where to?"), user("Rome."), answer("no")],
        },
        [("user", "Plan a trip."), ("assistant", "Where to?"), ("user", "Rome.")],
        ("yes", "no"),
    ),
    "prompt holds the conversation": (
        {
            "prompt": [system("Be brief."), user("A"), answer("a"), user("Q")],
            "chosen": [user("Q"), answer("yes")],
            "rejected": [answer("no")],
        },
        [("system", "Be brief."), ("user", "A"), ("assistant", "a"), ("user", "Q")],
        ("yes", "no"),
    ),
    "system turn of the prompt only": (
        {
            "prompt": [system("Be brief."), user("Q")],
            "chosen": [user("A"), answer("a"), user("Q"), answer("yes")],
            "rejected": [user("A"), answer("a"), user("Q"), answer("no")],
        },
        [("system", "Be brief."), ("user", "A"), ("assistant", "a"), ("user", "Q")],
        ("yes", "no"),
    ),
    "system column": (
        PAIRED | {"system": "Be brief."},
        [("system", "Be brief."), ("user", "Q")],
        ("yes", "no"),
    ),
    "system_prompt column": (
        {
            "system_prompt": "Be brief.",
            "chosen": [user("Q"), answer("yes")],
            "rejected": [user("Q"), answer("no")],
        },
        [("system", "Be brief."), ("user", "Q")],
        ("yes", "no"),
    ),
    "system column that repeats the turn": (
        PAIRED | {"prompt": [system("Be brief."), user("Q")], "system": "Be brief."},
        [("system", "Be brief."), ("user", "Q")],
        ("yes", "no"),
    ),
    "system column beside own rows": (
        GOOD | {"system": "Be brief."},
        [("system", "Be brief."), ("user", "Name a prime.")],
        ("2", "4"),
    ),
    "empty system column": (PAIRED | {"system": ""}, [("user", "Q")], ("yes", "no")),
    "instruction and input": (
        {"instruction": "Add.", "input": "1 + 1", "chosen": "2", "rejected": "3", "system": None},
        [("user", "Add.\n1 + 1")],
        ("2", "3"),
    ),
    "question and system": (
        {"system": "Be brief.", "question": "Q", "chosen": "yes", "rejected": "no"},
        [("system", "Be brief."), ("user", "Q")],
        ("yes", "no"),
    ),
    "prompt repeated in dialogue text": (HH | {"prompt": "\n\nHuman: Hi\n\nAssistant:"}, None, ("11", "12")),
    "dialogue text in an answer": (
        PAIRED | {"chosen": "Human: Hi\n\nAssistant: Hello"},
        [("user", "Q")],
        ("Human: Hi\n\nAssistant: Hello", "no"),
    ),
    "one turn as an object": (
        PAIRED | {"chosen": {"content": "yes", "name": None}},
        [("user", "Q")],
        ("yes", "no"),
    ),
    "null columns of other formats": (
        PAIRED | dict.fromkeys(["id", "messages", "responses", "preferred", "subset", "num_correct"]),
        [("user", "Q")],
        ("yes", "no"),
    ),
    "null keys of turns": (
        {"prompt": [user("Q") | {"tool_calls": None, "name": None}], "chosen": "yes", "rejected": "no"},
        [("user", "Q")],
        ("yes", "no"),
    ),
    "parts": (
        {
            "prompt": [user([{"type": "text", "text": "Q"}])],
            "chosen": [answer("yes")],
            "rejected": [answer("no")],
        },
        [("user", "Q")],
        ("yes", "no"),
    ),
    "responses as objects": (GOOD | {"responses": [{"content": "2"}, {"content": "4"}]}, None, ("2", "4")),
    "responses as turns": (GOOD | {"responses": [[answer("2")], [answer("4")]]}, None, ("2", "4")),
    "index as pandas writes it": (GOOD | {"preferred": 0.0}, None, ("2", "4")),
    "empty wrong response": (GOOD | {"responses": ["2", ""]}, None, ("2", "")),
    "parts in judgebench": (
        JUDGEBENCH | {"question": [user("Q")], "response_A": {"content": "12"}},
        [("user", "Q")],
        ("12", "11"),
    ),
    "turns of sharegpt": (
        {
            "conversations": [{"from": "human", "value": "Q"}],
            "chosen": {"from": "gpt", "value": "yes"},
            "rejected": {"from": "gpt", "value": "no"},
        },
        [("user", "Q")],
        ("yes", "no"),
    ),
    "conversations of sharegpt": (
        {
            "chosen": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "yes"}],
            "rejected": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "no"}],
        },
        [("user", "Q")],
        ("yes", "no"),
    ),
    "messages beside texts": (
        {"messages": [user("Q"), answer("yes")], "chosen": "yes", "rejected": "no"},
        [("user", "Q")],
        ("yes", "no"),
    ),
    "messages beside conversations": (
        {
            "messages": [user("Q"), answer("yes")],
            "chosen": [user("Q"), answer("yes")],
            "rejected": [user("Q"), answer("no")],
        },
        [("user", "Q")],
        ("yes", "no"),
    ),
    "items of responses": (
        {
            "prompt": "Q",
            "chosen": [
                {"type": "reasoning", "summary": []},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "yes"}]},
            ],
            "rejected": [{"type": "function_call", "name": "f", "arguments": "{}"}],
        },
        [("user", "Q")],
        ("yes", "```tool call: f\n{}\n```"),
    ),
    "no id": ({name: GOOD[name] for name in ("messages", "responses", "preferred")}, None, ("2", "4")),
    "system column beside rewardbench": (
        REWARDBENCH | {"system": "Be brief."},
        [("system", "Be brief."), ("user", "Name a prime.")],
        ("11", "12"),
    ),
}


@pytest.mark.parametrize("name", READ)
def test_row_means_what_it_says(tmp_path, name):
    row, turns, responses = READ[name]
    (item,) = load_rows(tmp_path, row).items
    assert item.responses == responses
    assert turns is None or turns_of(item) == turns
    assert not item.has_same_responses


def test_conversations_are_split_where_they_part(tmp_path):
    chosen = [user("Weather?"), answer(None, tool_calls=[call("weather", {"city": "Rome"})])]
    chosen += [{"role": "tool", "tool_call_id": "c1", "content": "21 C"}, answer("21 degrees.")]
    rejected = [user("Weather?"), answer("I cannot know.")]
    (item,) = load_rows(tmp_path, {"chosen": chosen, "rejected": rejected}).items
    assert turns_of(item) == [("user", "Weather?")]
    good, bad = item.responses
    assert bad == "I cannot know."
    parts = ["tool call: weather", "Rome", "tool result", "21 C", "21 degrees."]
    assert sorted(parts, key=good.index) == parts


def test_tool_call_is_a_response(tmp_path):
    row = {
        "prompt": [user("Weather?")],
        "chosen": [answer("", tool_calls=[call("weather", '{"city": "Rome"}')])],
        "rejected": [answer("I cannot know.")],
    }
    (item,) = load_rows(tmp_path, row).items
    assert "tool call: weather" in item.responses[0]


def test_tool_turns_are_part_of_the_prompt(tmp_path):
    turns = [user("Weather?"), answer(None, tool_calls=[call("weather", "{}")])]
    turns += [{"role": "tool", "tool_call_id": "c1", "content": "21 C"}]
    row = {"prompt": turns, "chosen": [answer("21")], "rejected": [answer("5")]}
    (item,) = load_rows(tmp_path, row).items
    assert [turn.role for turn in item.messages] == ["user", "assistant", "tool"]
    assert "tool call: weather" in item.messages[1].content


LEFT_OUT = {
    "pair": (PAIRED | {"rejected": "yes"}, "the responses are the same"),
    "spaces and line ends": (
        PAIRED | {"chosen": "a\r\nb", "rejected": "a\nb\n"},
        "the responses are the same",
    ),
    "conversations": (
        {"chosen": [user("Q"), answer("yes")], "rejected": [user("Q"), answer("yes")]},
        "the responses are the same",
    ),
    "dialogue texts": (HH | {"rejected": HH["chosen"]}, "the responses are the same"),
    "own": (GOOD | {"responses": ["2", "4", "2"]}, "the responses are the same"),
    "rewardbench": (REWARDBENCH | {"rejected": "11"}, "the responses are the same"),
    "rewardbench2": (REWARDBENCH2 | {"rejected": ["12", "13"]}, "the responses are the same"),
    "judgebench": (JUDGEBENCH | {"response_A": "11"}, "the responses are the same"),
    "ppe-human": (PPE_HUMAN | {"response_1": "11"}, "the responses are the same"),
    "rmb-pair": (RMB_PAIR | {"reject": {"llm_name": "y", "answer": "11"}}, "the responses are the same"),
    "rmb-bon": (
        RMB_BON | {"loser_list": [{"llm_name": "y", "answer": "12"}, {"llm_name": "z", "answer": "11"}]},
        "the responses are the same",
    ),
    "no conflict": (PPE_CORRECTNESS | {"scores": [True] * 3}, "no pair of a right and a wrong response"),
    "no sampled pair": (
        PPE_CORRECTNESS | {"sampled_conflict_pairs": []},
        "no pair of a right and a wrong response",
    ),
    "other questions": (
        {"chosen": [user("Q"), answer("yes")], "rejected": [user("R"), answer("no")]},
        "chosen and rejected part at a turn that is not the assistant's",
    ),
    "other questions in dialogue texts": (
        HH | {"rejected": HH["rejected"].replace("a prime", "an odd number")},
        "chosen and rejected part at a turn that is not the assistant's",
    ),
    "cut off": (
        {
            "chosen": [user("Q"), answer("yes"), user("R"), answer("no")],
            "rejected": [user("Q"), answer("yes")],
        },
        "one conversation is the beginning of the other",
    ),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_row_is_left_out_and_counted(tmp_path, name):
    row, reason = LEFT_OUT[name]
    result = load_rows(tmp_path, GOOD, row)
    assert (len(result.items), result.left_out) == (1, {reason: 1})


def test_nan_of_pandas_is_null(tmp_path):
    table = {"id": [math.nan], "messages": ["Q"], "responses": [["2", "4"]], "preferred": [math.nan]}
    table |= {name: [math.nan] for name in ("system", "source", "meta")}
    parquet.write_table(pyarrow.table(table), tmp_path / "rows.parquet")
    (item,) = load(str(tmp_path / "rows.parquet")).items
    assert (item.id, item.source, item.correct, turns_of(item)) == ("row-1", "own", (), [("user", "Q")])


def test_only_same_pairs_of_a_row_are_left_out(tmp_path):
    result = load_rows(tmp_path, RM_BENCH | {"rejected": ["12", "It is 12.", "11 "]})
    assert (len(result.items), result.left_out) == (8, {"the responses are the same": 1})


def test_labelled_tie_of_same_responses_stays(tmp_path):
    (item,) = load_rows(tmp_path, GOOD | {"responses": ["2", "2"], "preferred": None}).items
    assert item.correct == ()


REFUSED = {
    "null response": (PAIRED | {"rejected": None}, "rejected is null"),
    "null response of a list": (GOOD | {"responses": ["2", None]}, "responses[1] is null"),
    "null content": (GOOD | {"responses": ["2", {"content": None}]}, "responses[1]"),
    "null prompt": (GOOD | {"messages": None}, "messages is null"),
    "null turn": (GOOD | {"messages": [user(None)]}, "messages"),
    "number as a response": (PAIRED | {"chosen": 7}, "chosen"),
    "list stored as JSON": (GOOD | {"responses": '["2", "4"]'}, "responses is a text: it must be a list"),
    "list stored as text": (GOOD | {"responses": "2|||4", "preferred": 1}, "responses is a text"),
    "object of responses": (
        GOOD | {"responses": {"a": "2", "b": "4"}},
        "responses is an object: it must be a list",
    ),
    "list of rewardbench2 as text": (
        REWARDBENCH2 | {"chosen": '["11"]'},
        "chosen is a text: it must be a list",
    ),
    "lists of rm-bench as text": (
        RM_BENCH | {"chosen": "['11', '13', '17']", "rejected": "['12' '14' '16']"},
        "chosen is a text: it must be a list",
    ),
    "losers as text": (RMB_BON | {"loser_list": "[{'answer': '12'}]"}, "loser_list is a text"),
    "loser as text": (RMB_BON | {"loser_list": ["12"]}, "every answer must be an object"),
    "scores as text": (PPE_CORRECTNESS | {"scores": "[true, false, false]"}, "scores is a text"),
    "list of texts in a pair": (PAIRED | {"chosen": ["yes", "aye"]}, "chosen is a list of texts"),
    "turns stored as text": (
        GOOD | {"messages": json.dumps([user("Q")])},
        "messages: turns are stored as text",
    ),
    "turns of a pair stored as text": (
        {"prompt": "Q", "chosen": str([answer("yes")]), "rejected": str([answer("no")])},
        "chosen and rejected: turns are stored as text",
    ),
    "prompt stored as text": (
        JUDGEBENCH | {"question": str([user("Q")])},
        "question: turns are stored as text",
    ),
    "models as text": (OWN | {"meta": {"models": "xy"}}, "models is a text"),
    "meta as text": (GOOD | {"meta": "{}"}, "meta must be an object"),
    "index as text": (GOOD | {"preferred": "0"}, "preferred is '0': it must be an index"),
    "index as bool": (GOOD | {"preferred": True}, "preferred is True: it must be an index"),
    "half an index": (GOOD | {"preferred": 0.5}, "preferred is 0.5"),
    "negative index": (GOOD | {"preferred": -1}, "preferred is -1"),
    "index too large": (GOOD | {"preferred": 2}, "preferred is 2: it must be an index of one of 2 responses"),
    "list of indices": (GOOD | {"preferred": [0]}, "preferred is [0]"),
    "pair index too large": (PPE_CORRECTNESS | {"sampled_conflict_pairs": [[0, 3]]}, "index is 3"),
    "negative pair index": (PPE_CORRECTNESS | {"sampled_conflict_pairs": [[0, -1]]}, "index is -1"),
    "pair of one index": (PPE_CORRECTNESS | {"sampled_conflict_pairs": [[0]]}, "has [0]: it must have lists"),
    "indices without pairs": (PPE_CORRECTNESS | {"sampled_conflict_pairs": [0, 1]}, "has 0: it must have"),
    "label as a list": (JUDGEBENCH | {"label": ["A>B"]}, "label is ['A>B']"),
    "lone surrogate in an id": (JUDGEBENCH | {"pair_id": "\ud800"}, "surrogate"),
    "null score": (PPE_CORRECTNESS | {"scores": [True, None, False]}, "a score is None"),
    "unknown role": (GOOD | {"messages": [{"role": "narrator", "content": "Q"}]}, "narrator"),
    "turn without role": (GOOD | {"messages": [{"content": "Q"}]}, "role"),
    "image": (GOOD | {"messages": [user([{"type": "image_url", "image_url": {"url": "x"}}])]}, "image"),
    "column of images": (PAIRED | {"images": ["x.png"]}, "images: a judge reads text only"),
    "image in one response": (PAIRED | {"chosen": [answer([{"type": "image"}])]}, "chosen: turn 0: part 0"),
    "empty prompt": (GOOD | {"messages": " "}, "messages is empty"),
    "empty conversation": (GOOD | {"messages": []}, "messages"),
    "lone surrogate": (PAIRED | {"chosen": "\ud800"}, "surrogate"),
    "NUL character": (PAIRED | {"prompt": "a\0b"}, "NUL"),
    "two system turns": (
        PAIRED | {"prompt": [system("Be brief."), user("Q")], "system": "Be long."},
        "two system turns that differ",
    ),
    "contradiction": (
        {"prompt": "R", "chosen": [user("Q"), answer("yes")], "rejected": [user("Q"), answer("no")]},
        "the prompt and the conversation differ",
    ),
    "prompt at different places": (
        {
            "prompt": [user("A"), answer("a"), user("Q")],
            "chosen": [answer("yes")],
            "rejected": [user("A"), answer("b"), user("A"), answer("a"), user("Q"), answer("no")],
        },
        "hold the prompt at different places",
    ),
    "history": (
        {"instruction": "Q", "history": [["a", "b"]], "chosen": "yes", "rejected": "no"},
        "history is not read",
    ),
    "no prompt": ({"chosen": [answer("yes")], "rejected": [answer("no")]}, "there is no prompt"),
    "empty lists": (RM_BENCH | {"rejected": []}, "rejected is empty"),
    "unknown label": (JUDGEBENCH | {"label": None}, "label is None: it must be A>B or B>A"),
    "odd id": (GOOD | {"id": {"$oid": "1"}}, "id is {'$oid': '1'}"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_row_is_named(tmp_path, name):
    row, reason = REFUSED[name]
    with pytest.raises(BadTask) as failed:
        load_rows(tmp_path, GOOD, row)
    assert "data.jsonl, line 2" in str(failed.value)
    assert reason in str(failed.value)


def test_ids_are_those_of_earlier_versions(tmp_path):
    rows = [PAIR, PAIR | {"id": None}, PAIR | {"id": 7.0}, PAIR | {"id": "a"}, REWARDBENCH, JUDGEBENCH]
    ids = [item.id for item in load_rows(tmp_path, *rows).items]
    assert ids == ["row-1", "row-2", "7", "a", "rewardbench:30", "judgebench:p1"]
