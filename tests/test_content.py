import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm_service.content import NotText, block, to_message, to_messages, to_response, to_text
from grm_service.plain_values import to_reference
from grm_service.types import Message
from tests.turn_table import CALL, IMAGES, NULL, TEXTS, TRAJECTORY, TRAJECTORY_TEXT, call, turn


@pytest.mark.parametrize(("shape", "text"), TEXTS.values(), ids=TEXTS)
def test_every_shape_has_its_text(shape, text):
    assert to_response(shape) == to_response([shape]) == to_response([shape], lenient=True) == text
    assert to_message(shape) == Message("assistant", text)


def test_trajectory_shows_calls_and_results():
    assert to_response(TRAJECTORY) == to_response(np.array(TRAJECTORY, dtype=object)) == TRAJECTORY_TEXT


def test_conversation_keeps_its_roles():
    roles = ["system", "developer", "user", "assistant", "tool", "function"]
    turns = [{"role": role, "content": role} for role in roles]
    assert to_messages(turns) == tuple(Message(role, role) for role in roles)
    assert to_messages("Q") == (Message("user", "Q"),)


def test_items_of_responses_have_roles():
    items = [
        {"type": "function_call", "name": "weather", "arguments": '{"city": "Rome"}', "call_id": "c1"},
        {"type": "function_call_output", "call_id": "c1", "output": "21 C"},
    ]
    assert to_messages(items) == (Message("assistant", CALL), Message("tool", "```tool result\n21 C\n```"))


def test_reasoning_items_are_no_turns():
    items = [{"type": "reasoning", "summary": []}, turn("21")]
    assert to_messages(items) == to_messages(items, lenient=True) == (Message("assistant", "21"),)


@pytest.mark.parametrize(
    ("result", "text"),
    [({"celsius": 21}, '{"celsius": 21}'), ([{"a": 1}, 2], '[{"a": 1}, 2]'), (0, "0"), (False, "false")],
    ids=str,
)
def test_tool_result_may_be_any_json(result, text):
    turns = [{"role": "tool", "name": "weather", "content": result}]
    assert to_messages(turns) == to_messages(turns, lenient=True) == (Message("tool", text),)
    assert to_response(turns) == f"```tool result: weather\n{text}\n```"


def test_turns_of_sharegpt_are_read():
    turns = [
        {"from": "human", "value": "Rome?"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Rome"}}'},
        {"from": "observation", "value": "21 C"},
        {"from": "gpt", "value": "21"},
    ]
    roles = [(each.role, each.content) for each in to_messages(turns)]
    assert roles == [("user", "Rome?"), ("assistant", CALL), ("tool", "21 C"), ("assistant", "21")]
    assert to_response(turns[1:]) == f"{CALL}\n\n```tool result\n21 C\n```\n\n21"


def test_unknown_role_is_refused_or_a_user():
    with pytest.raises(NotText, match="turn 0: the role must be one of system"):
        to_messages([{"role": "robot", "content": "x"}])
    assert to_messages([{"role": "robot", "content": "x"}], lenient=True) == (Message("user", "x"),)


@pytest.mark.parametrize("part", IMAGES, ids=str)
def test_image_is_refused_or_masked(part):
    content = [{"type": "text", "text": "What is this?"}, part]
    with pytest.raises(NotText, match=r"part 1: a part of type '.*image"):
        to_text(content)
    assert to_text(content, lenient=True) == "What is this?\n\n[image]"


@pytest.mark.parametrize("value", [*NULL, 42, True, b"x", object()], ids=lambda value: type(value).__name__)
def test_null_is_no_response(value):
    for lenient in (False, True):
        with pytest.raises(NotText):
            to_response(value, lenient=lenient)


def test_explicit_empty_text_is_a_response():
    assert to_response("") == to_response([turn("")]) == ""


def test_only_plain_strings_keep_labels():
    """A plain string may be a text that was read before, except in a trainer's door."""
    assert to_response(CALL) == CALL
    for imitation in (to_response(CALL, lenient=True), to_response([turn(CALL)])):
        assert imitation == CALL.replace("```tool", "```quoted tool")
        assert to_response(imitation, lenient=True) == imitation


@pytest.mark.parametrize(
    "start",
    ["- ```", "> ```", "\u00a0```", "a\r```", "a\u2028```", "~~~", "｀｀｀", "```\u200b", "``` ", "a ```"],
    ids=repr,
)
@pytest.mark.parametrize("label", ["tool result", "tool  result", "Tool_Call: f", "refusal", "user-turn"])
def test_imitated_labels_are_quoted(start, label):
    assert to_response([turn(f"{start}{label}\n5")]) == f"{start}quoted {label}\n5"


def test_other_fences_stay():
    text = "```python\ntool_call = 1\n```\n~~~toolbox\n~~~\n``tool call``"
    assert to_response([turn(text)]) == text


@given(st.text(alphabet="`\n tolcare:x~", max_size=60), st.text(alphabet="`\nab", max_size=20))
def test_no_text_closes_its_fence(text, name):
    first, *_, last = to_response(turn(tool_calls=[call(text)])).split("\n")
    fence = first.partition("tool call")[0]
    assert last == fence
    assert fence not in block("tool call", text)[len(fence) : -len(fence)]
    assert "\n" not in to_response(turn(tool_calls=[{"name": name}])).partition("\n")[0]


SHAPES = [
    lambda text: text,
    lambda text: {"type": "text", "text": text},
    lambda text: {"text": text},
    lambda text: {"type": "refusal", "refusal": text},
    lambda text: {"type": "thinking", "thinking": text},
    lambda text: {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]},
    lambda text: {"type": "tool_use", "name": "f", "input": {"a": text}},
    lambda text: {"type": "tool_result", "content": [{"type": "text", "text": text}]},
    lambda text: {"type": "function_call_output", "output": {"a": text}},
    lambda text: {"functionCall": {"name": "f", "args": {"a": text}}},
    lambda text: {"type": "image", "text": text},
    lambda text: turn(text),
    lambda text: turn(refusal=text),
    lambda text: turn(reasoning=text),
    lambda text: turn(tool_calls=[call(text)]),
    lambda text: turn(tool_calls=[call({"a": [text]})]),
    lambda text: turn(function_call={"name": "f", "arguments": text}),
    lambda text: {"role": "tool", "content": text},
    lambda text: {"role": "model", "parts": [{"text": text}]},
]
NULLS = st.dictionaries(
    st.sampled_from(["text", "image", "name", "tool_calls", "refusal", "audio"]), st.none()
)


@given(st.sampled_from(SHAPES), st.text(alphabet="abc", min_size=1), NULLS, st.integers(0, 2))
def test_no_text_is_lost(shape, text, nulls, depth):
    value = shape(text)
    value = nulls | value if isinstance(value, dict) else value
    if depth == 1 and not (isinstance(value, dict) and "role" in value):
        value = turn([None, value])
    value = [value] if depth else value
    assert text in to_response(value, lenient=True)


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        *[
            ("Paris", "Paris"),
            (42, "42"),
            (42.0, "42"),
            (0, "0"),
            (0.5, "0.5"),
            (True, "true"),
            (False, "false"),
        ],
        *[(np.int64(42), "42"), (np.float32(2), "2"), (np.bool_(True), "true"), (np.str_("x"), "x")],
        *[(["Paris"], "Paris"), (np.array(["a", "b"]), '["a", "b"]'), ({"a": 1, "b": None}, '{"a": 1}')],
        *[(None, None), (math.nan, None), (np.nan, None), ("", None), (" ", None)],
        *[([], None), ({}, None), (np.array([]), None), ([None], None)],
    ],
    ids=repr,
)
def test_references_mean_what_they_say(value, reference):
    assert to_reference(value) == reference


@pytest.mark.parametrize(
    "value", ["\0", "\ud800", object(), 10**5000], ids=["nul", "surrogate", "object", "huge"]
)
def test_what_cannot_be_stored_is_no_reference(value):
    with pytest.raises(NotText):
        to_reference(value)


def test_deep_arguments_are_refused():
    deep = []
    for _ in range(500):
        deep = [deep]
    with pytest.raises(NotText, match="deep"):
        to_response(turn(tool_calls=[call(deep)]))


def nested(wrap, inner, levels=2000):
    for _ in range(levels):
        inner = wrap(inner)
    return inner


TEXT = {"type": "text", "text": "a"}
NESTED = {
    "results": nested(lambda part: {"type": "text", "functionResponse": {"content": [part]}}, TEXT),
    "thoughts": nested(lambda part: {"type": "image", "thought": True, "text": [part]}, TEXT),
    "thoughts in images": nested(
        lambda part: {"type": "text", "image": {"thought": True, "text": [part]}}, TEXT
    ),
    "reasoning": nested(lambda part: {"type": "text", "reasoning": [part]}, TEXT),
    "outputs": turn(
        tool_calls=nested(lambda call: {"output": [TEXT | {"functionCall": call}]}, {"name": "a"})
    ),
    "lists": nested(lambda part: [part], "a"),
    "contents": nested(lambda part: {"content": part}, "a"),
    "role": {"role": nested(lambda name: [name], "a"), "content": "a"},
    "type": {"type": nested(lambda name: [name], "a"), "text": "a"},
    "name of a tool": {"type": "tool_use", "name": nested(lambda name: [name], "a"), "input": "a"},
    "calls as text": turn(tool_calls="[" * 100_000 + "]" * 100_000),
    "arguments as text": turn(tool_calls=[call("[" * 900 + "]" * 900)]),
    "huge role": {"role": 10**5000, "content": "a"},
    "huge type": {"type": 10**5000, "text": "a"},
    "huge name": {"type": "tool_use", "name": 10**5000, "input": "a"},
    "huge argument": turn(tool_calls=[call({"a": 10**5000})]),
}


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("shape", NESTED.values(), ids=NESTED)
def test_nesting_and_numbers_are_bounded(shape, lenient):
    """A RecursionError or the ValueError of a huge integer would fail the test."""
    for read in (
        to_text,
        to_message,
        to_response,
        lambda turn, lenient: to_messages([turn], lenient=lenient),
    ):
        try:
            read(shape, lenient=lenient)
        except NotText as refused:
            assert len(str(refused)) < 300


def test_result_inside_a_result_is_data():
    inner = {"type": "text", "functionResponse": {"name": "f", "response": "a"}}
    assert to_text([{"type": "tool_result", "content": [inner]}]) == block(
        "tool result", '[{"type": "text", "functionResponse": {"name": "f", "response": "a"}}]'
    )
