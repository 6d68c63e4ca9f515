"""Rows of the published formats, made up by hand."""

import gzip
import json

import pytest

from grm_service.errors import BadTask, UnknownName
from grm_service.evaluation.dataset import some
from grm_service.evaluation.formats import READERS, detect
from grm_service.evaluation.reading import read
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
    assert detect(row) == name
    return list(READERS[name].read(row, 1))


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
def test_a_published_row_is_told_by_its_columns_and_read(name, row, source, responses, correct, authors):
    (found,) = items(name, row)
    assert found.messages == ASKED
    assert (found.source, found.responses, found.correct, found.authors) == (
        source,
        responses,
        correct,
        authors,
    )


def test_style_pairs_are_hard_where_the_wrong_answer_has_the_showier_style():
    found = items("rm-bench", RM_BENCH)
    assert len(found) == 9
    assert {item.group for item in found} == {"rm_bench:3"}
    sources = {item.responses: item.source for item in found}
    assert sources["11", "**12**"] == "math/hard"
    assert sources["It is 11.", "It is 12."] == "math/normal"
    assert sources["**11**", "12"] == "math/easy"


def test_texts_with_a_domain_are_plain_pairs_and_not_taken_letter_by_letter():
    row = {"id": "1", "prompt": "Capital?", "chosen": "Paris.", "rejected": "Lyon!", "domain": "geography"}
    assert [item.responses for item in items("pair", row)] == [("Paris.", "Lyon!")]


def test_pairs_of_answers_that_are_alike_right_are_no_items():
    one, other = items("ppe-correctness", PPE_CORRECTNESS)
    assert (one.responses, one.correct) == (("11", "12"), (0,))
    assert (other.responses, other.correct) == (("14", "11"), (1,))
    assert one.group == other.group


def test_a_dialogue_as_text_is_taken_apart():
    (found,) = items("pair", HH)
    assert found.responses == ("11", "12")
    said = [("user", "Hi"), ("assistant", "Hello"), ("user", "Name a prime.")]
    assert [(turn.role, turn.content) for turn in found.messages] == said


@pytest.mark.parametrize("winner", ["tie", "tie (bothbad)"])
def test_what_people_call_a_tie_has_no_right_response(winner):
    (found,) = items("ppe-human", PPE_HUMAN | {"winner": winner})
    assert found.correct == ()


def written(folder, rows, name="data.jsonl"):
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_a_single_response_is_left_out_and_counted(tmp_path):
    single = OWN | {"id": "a:2", "responses": ["11"], "preferred": None, "scores": [1.0]}
    found = read(written(tmp_path, [OWN, single]))
    assert len(found.items) == 1
    assert found.left_out == {"a single response": 1}


def test_files_may_be_lists_compressed_or_in_folders(tmp_path):
    (tmp_path / "list.json").write_text(json.dumps([REWARDBENCH]))
    with gzip.open(tmp_path / "more.jsonl.gz", "wt") as file:
        file.write(json.dumps(PAIR) + "\n")
    (tmp_path / "notes.txt").write_text("no data")
    assert [item.source for item in read(str(tmp_path)).items] == ["math-prm", "pair"]


def test_ids_that_occur_again_are_numbered(tmp_path):
    found = read(written(tmp_path, [OWN, OWN])).items
    assert [item.id for item in found] == ["a:1", "a:1#2"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": "hello"}, "row 1: no known format has the columns text; name one with --format"),
        (OWN | {"preferred": 2}, "row 1 cannot be read as own: ValueError of 2 responses, (2,)"),
        (JUDGEBENCH | {"label": "A=B"}, "row 1 cannot be read as judgebench: KeyError 'A=B'"),
        ({"chosen": "11", "rejected": "12"}, "there is no prompt"),
        (REWARDBENCH2 | {"rejected": []}, "cannot be the right ones"),
        ([1], "row 1 is no JSON object"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path, row, says):
    with pytest.raises(BadTask) as failed:
        read(written(tmp_path, [row]))
    assert says in str(failed.value)


def test_no_file_no_json_and_no_format_are_said(tmp_path):
    with pytest.raises(BadTask, match="cannot be read"):
        read(str(tmp_path / "nowhere.jsonl"))
    (tmp_path / "bad.jsonl").write_text("{\n")
    with pytest.raises(BadTask, match="is not JSON"):
        read(str(tmp_path / "bad.jsonl"))
    with pytest.raises(UnknownName, match="rewardbench2"):
        read(written(tmp_path, [OWN]), "parquet")
    with pytest.raises(BadTask, match="has no item that can be judged"):
        read(written(tmp_path, [], "empty.jsonl"))


def test_a_part_of_the_data_has_every_source_in_its_share(tmp_path):
    rows = [OWN | {"id": f"a:{i}"} for i in range(80)]
    rows += [OWN | {"id": f"b:{i}", "source": "b"} for i in range(20)]
    found = some(read(written(tmp_path, rows)).items, 10)
    assert [item.source for item in found] == ["a"] * 8 + ["b"] * 2
    assert found == some(read(written(tmp_path, rows)).items, 10)
