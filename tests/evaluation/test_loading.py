import gzip
import json

import pyarrow
import pytest
from pyarrow import parquet

from grm_service.errors import BadTask, UnknownName
from grm_service.evaluation.dataset import subset
from grm_service.evaluation.loading import load
from tests.evaluation.test_formats import JUDGEBENCH, OWN, PAIR, REWARDBENCH, REWARDBENCH2


def written(folder, rows, name="data.jsonl"):
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_single_response_is_left_out(tmp_path):
    single = OWN | {"id": "a:2", "responses": ["11"], "preferred": None, "scores": [1.0]}
    result = load(written(tmp_path, [OWN, single]))
    assert len(result.items) == 1
    assert result.left_out == {"a single response": 1}


def test_lists_compressed_files_and_folders(tmp_path):
    (tmp_path / "list.json").write_text(json.dumps([REWARDBENCH]))
    with gzip.open(tmp_path / "more.jsonl.gz", "wt") as file:
        file.write(json.dumps(PAIR) + "\n")
    (tmp_path / "notes.txt").write_text("no data")
    assert [item.source for item in load(str(tmp_path)).items] == ["math-prm", "pair"]


def test_folder_of_mixed_kinds(tmp_path):
    (tmp_path / "part").mkdir()
    table = pyarrow.Table.from_pylist([OWN | {"preferred": 1, "scores": None}])
    parquet.write_table(table, tmp_path / "part" / "Train.Parquet")
    (tmp_path / "more.NDJSON").write_bytes(b"\xef\xbb\xbf" + json.dumps(PAIR).encode() + b"\r\n")
    (tmp_path / "README.md").write_text("about the data")
    result = load(str(tmp_path))
    assert [(item.source, item.correct) for item in result.items] == [("pair", (0,)), ("a", (1,))]
    assert result.unread == ("README.md",)


def test_folder_without_data_names_its_files(tmp_path):
    (tmp_path / "rows.csv").write_text("prompt,chosen,rejected")
    with pytest.raises(BadTask, match=r"no item that can be judged; not read: rows.csv"):
        load(str(tmp_path))


def test_index_of_a_column_with_nulls(tmp_path):
    # pandas reads these integers as floats and writes them as such.
    table = pyarrow.table(
        {
            "id": ["a", "b"],
            "messages": ["Q", "R"],
            "responses": [["1", "2"]] * 2,
            "preferred": pyarrow.array([1.0, None]),
        }
    )
    parquet.write_table(table, tmp_path / "data.parquet")
    assert [item.correct for item in load(str(tmp_path / "data.parquet")).items] == [(1,), ()]


def test_repeated_ids_are_numbered(tmp_path):
    result = load(written(tmp_path, [OWN, OWN])).items
    assert [item.id for item in result] == ["a:1", "a:1#2"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": "hello"}, "line 1: no known format has the columns text; name one with --format"),
        (OWN | {"preferred": 2}, "line 1 cannot be read as own: preferred is 2"),
        (JUDGEBENCH | {"label": "A=B"}, "line 1 cannot be read as judgebench: label is 'A=B'"),
        ({"chosen": "11", "rejected": "12"}, "there is no prompt"),
        (REWARDBENCH2 | {"rejected": []}, "rejected is empty"),
        ([1], "row 1 is no JSON object"),
    ],
)
def test_unreadable_row_is_named(tmp_path, row, says):
    with pytest.raises(BadTask) as failed:
        load(written(tmp_path, [row]))
    assert says in str(failed.value)


def test_unusable_data_is_rejected(tmp_path):
    with pytest.raises(BadTask, match="cannot be read"):
        load(str(tmp_path / "nowhere.jsonl"))
    (tmp_path / "bad.jsonl").write_text("{\n")
    with pytest.raises(BadTask, match="is not JSON"):
        load(str(tmp_path / "bad.jsonl"))
    with pytest.raises(UnknownName, match="rewardbench2"):
        load(written(tmp_path, [OWN]), "parquet")
    with pytest.raises(BadTask, match="has no item that can be judged"):
        load(written(tmp_path, [], "empty.jsonl"))


def test_subset_is_stratified_by_source(tmp_path):
    rows = [OWN | {"id": f"a:{i}"} for i in range(80)]
    rows += [OWN | {"id": f"b:{i}", "source": "b"} for i in range(20)]
    result = subset(load(written(tmp_path, rows)).items, 10)
    assert [item.source for item in result] == ["a"] * 8 + ["b"] * 2
    assert result == subset(load(written(tmp_path, rows)).items, 10)
