"""Invented rows in the published formats."""

import pytest

from grm_service.evaluation.formats import FORMATS, detect_format
from grm_service.types import Message

TURNS = [{"role": "user", "content": "Name a prime."}]
ASKED = (Message("user", "Name a prime."),)
OWN = {
    "id": "a:1",
    "source": "a",
    "subset": "s",
    "messages": TURNS,
    "responses": ["11", "12"],
    "preferred": 0,
    "scores": None,
    "meta": {"label_type": "verified", "models": ["m/x", "m/y"]},
}
REWARDBENCH = {
    "id": 30,
    "prompt": "Name a prime.",
    "chosen": "11",
    "chosen_model": "gpt-4",
    "rejected": "12",
    "rejected_model": "llama",
    "subset": "math-prm",
}
REWARDBENCH2 = {
    "id": "7",
    "prompt": "Name a prime.",
    "chosen": ["11", "13"],
    "rejected": ["12", "14"],
    "num_correct": 2,
    "num_incorrect": 2,
    "total_completions": 4,
    "models": ["a", "b", "c", "d"],
    "subset": "Ties",
    "additional_metadata": {},
}
JUDGEBENCH = {
    "pair_id": "p1",
    "original_id": "o1",
    "source": "mmlu-pro-math",
    "question": "Name a prime.",
    "response_model": "gpt-4o",
    "response_A": "12",
    "response_B": "11",
    "label": "B>A",
}
RM_BENCH = {
    "id": 3,
    "prompt": "Name a prime.",
    "chosen": ["11", "It is 11.", "**11**"],
    "rejected": ["12", "It is 12.", "**12**"],
    "domain": "math",
}
PPE_HUMAN = {
    "question_id": "q1",
    "model_a": "x",
    "model_b": "y",
    "winner": "model_b",
    "prompt": "Name a prime.",
    "response_1": "12",
    "response_2": "11",
    "language": "English",
}
PPE_CORRECTNESS = {
    "question_id": "q1",
    "prompt": "Name a prime.",
    "response_1": "11",
    "response_2": "12",
    "response_3": "14",
    "scores": [True, False, False],
    "sampled_conflict_pairs": [[0, 1], [2, 0], [1, 2]],
    "model_name": "llama",
    "benchmark": "math",
}
RMB_PAIR = {
    "pair_uid": "u1",
    "category_path": "Helpfulness/Reasoning/Maths",
    "conversation_input": TURNS,
    "chosen": {"llm_name": "x", "answer": "11"},
    "reject": {"llm_name": "y", "answer": "12"},
}
RMB_BON = {
    "bon_uid": "u2",
    "category_path": "Harmlessness/S1",
    "conversation_input": TURNS,
    "bon_best": {"llm_name": "x", "answer": "11"},
    "loser_list": [{"llm_name": "y", "answer": "12"}, {"llm_name": "z", "answer": "14"}],
}
PAIR = {"prompt": "Name a prime.", "chosen": "11", "rejected": "12"}
TURNS_PAIR = {
    "chosen": [*TURNS, {"role": "assistant", "content": "11"}],
    "rejected": [*TURNS, {"role": "assistant", "content": "12"}],
}
HH = {
    "chosen": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Name a prime.\n\nAssistant: 11",
    "rejected": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Name a prime.\n\nAssistant: 12",
}


def items(name, row):
    assert detect_format(row) == name
    return list(FORMATS[name].read(row, 1))


@pytest.mark.parametrize(
    ("name", "row", "source", "responses", "correct", "authors"),
    [
        ("own", OWN, "a", ("11", "12"), (0,), ("m/x", "m/y")),
        ("rewardbench", REWARDBENCH, "math-prm", ("11", "12"), (0,), ("gpt-4", "llama")),
        ("rewardbench2", REWARDBENCH2, "Ties", ("11", "13", "12", "14"), (0, 1), ("a", "b", "c", "d")),
        ("judgebench", JUDGEBENCH, "mmlu-pro-math", ("12", "11"), (1,), ("gpt-4o", "gpt-4o")),
        ("ppe-human", PPE_HUMAN, "ppe_human", ("12", "11"), (1,), ("x", "y")),
        ("rmb-pair", RMB_PAIR, "Helpfulness/Reasoning", ("11", "12"), (0,), ("x", "y")),
        ("rmb-bon", RMB_BON, "Harmlessness/S1", ("11", "12", "14"), (0,), ("x", "y", "z")),
        ("pair", PAIR, "pair", ("11", "12"), (0,), ()),
        ("pair", TURNS_PAIR, "pair", ("11", "12"), (0,), ()),
    ],
)
def test_published_row_is_detected_and_read(name, row, source, responses, correct, authors):
    (result,) = items(name, row)
    assert result.messages == ASKED
    assert (result.source, result.responses, result.correct, result.authors) == (
        source,
        responses,
        correct,
        authors,
    )


def test_rm_bench_pairs_have_levels():
    result = items("rm-bench", RM_BENCH)
    assert len(result) == 9
    assert {item.group for item in result} == {"rm_bench:3"}
    sources = {item.responses: item.source for item in result}
    assert sources["11", "**12**"] == "math/hard"
    assert sources["It is 11.", "It is 12."] == "math/normal"
    assert sources["**11**", "12"] == "math/easy"


def test_texts_with_domain_are_plain_pairs():
    row = {"id": "1", "prompt": "Capital?", "chosen": "Paris.", "rejected": "Lyon!", "domain": "geography"}
    assert [item.responses for item in items("pair", row)] == [("Paris.", "Lyon!")]


def test_equally_right_answers_are_skipped():
    one, other = items("ppe-correctness", PPE_CORRECTNESS)
    assert (one.responses, one.correct) == (("11", "12"), (0,))
    assert (other.responses, other.correct) == (("14", "11"), (1,))
    assert one.group == other.group


def test_dialogue_text_is_split():
    (result,) = items("pair", HH)
    assert result.responses == ("11", "12")
    turns = [("user", "Hi"), ("assistant", "Hello"), ("user", "Name a prime.")]
    assert [(turn.role, turn.content) for turn in result.messages] == turns


@pytest.mark.parametrize("winner", ["tie", "tie (bothbad)"])
def test_labelled_tie_has_no_right_response(winner):
    (result,) = items("ppe-human", PPE_HUMAN | {"winner": winner})
    assert result.correct == ()
