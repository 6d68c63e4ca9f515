"""Data files as Windows, pandas and the Hub write them."""

import codecs
import gzip
import json
import sys

import pyarrow
import pytest
from pyarrow import parquet

from grm_service.data_files import decode, list_folder, read_rows
from grm_service.errors import BadTask, MissingExtra

ROWS = [{"prompt": "Straße?", "n": 1}, {"prompt": "R\u2028r", "n": 2}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def as_parquet(tmp_path):
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "made")
    return (tmp_path / "made").read_bytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.jsonl", LINES.encode()),
        ("upper.JSONL", LINES.encode()),
        ("nd.ndjson", LINES.encode()),
        ("lines.json", LINES.encode()),
        ("none", LINES.encode()),
        ("bom.jsonl", codecs.BOM_UTF8 + LINES.encode()),
        ("joined.jsonl", ("\ufeff" + LINES.replace("\n", "\n\ufeff")).encode()),
        ("crlf.jsonl", LINES.replace("\n", "\r\n").encode()),
        ("utf16.jsonl", LINES.encode("utf-16")),
        ("utf16be.jsonl", codecs.BOM_UTF16_BE + LINES.encode("utf-16-be")),
        ("utf32.jsonl", LINES.encode("utf-32")),
        ("blank.jsonl", ("\n \n" + LINES.replace("\n", "\n\n")).encode()),
        ("no-newline.jsonl", LINES.rstrip().encode()),
        ("zip.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("zip.JSONL.GZ", gzip.compress(codecs.BOM_UTF8 + LINES.encode(), mtime=0)),
        ("unnamed-zip.jsonl", gzip.compress(LINES.encode(), mtime=0)),
        (
            "two-members.jsonl.gz",
            b"".join(gzip.compress(f"{line}\n".encode(), mtime=0) for line in LINES.split("\n")),
        ),
        ("list.json", json.dumps(ROWS).encode()),
        ("list.jsonl", json.dumps(ROWS, indent=2).encode()),
        ("spread.json", "\n".join(json.dumps(row, indent=2) for row in ROWS).encode()),
    ],
)
def test_rows_are_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert [row.columns for row in read_rows(tmp_path / name)] == ROWS


@pytest.mark.parametrize("name", ["data.parquet", "DATA.PARQUET", "data.bin"])
def test_parquet_is_read(tmp_path, name):
    (tmp_path / name).write_bytes(as_parquet(tmp_path))
    rows = list(read_rows(tmp_path / name))
    assert [row.columns for row in rows] == ROWS
    assert rows[1].place == f"{tmp_path / name}, row 2"


def test_parquet_names_its_extra(tmp_path, monkeypatch):
    (tmp_path / "data.parquet").write_bytes(as_parquet(tmp_path))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match=r"data.parquet is parquet.*grm-service\[train\]"):
        list(read_rows(tmp_path / "data.parquet"))


ROW = '{"prompt": "Q"}'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (f"{ROW}\n\n" + '{"prompt": "Q', "line 3 is not JSON: Unterminated string"),
        (f'{ROW}\n{{"n": NaN}}', "line 2 is not JSON: NaN is no value of JSON"),
        (f'{ROW}\n{{"n": -Infinity}}', "line 2 is not JSON: -Infinity"),
        (f'{ROW}\n{{"n": 1, "m": {{"n": 1, "n": 2}}}}', "line 2 is not JSON: 'n' is twice"),
        (f'[{ROW}, {{"n": 1, "n": 2}}]', "row 2 is not JSON: 'n' is twice"),
        (f"{ROW}\n[1]", "line 2 is no JSON object"),
        (f"[{ROW}, 1]", "row 2 is no JSON object"),
        (f"[{ROW}", "no comma or end after row 1"),
        (f"[{ROW}, ", "row 2 is not JSON"),
        (f"[{ROW}] {ROW}", "text after the JSON list"),
        (f"{ROW}\n" + "[" * 100_000, "line 2 is not JSON"),
        (f"{ROW}\n" + '{"n": 1' + "0" * 5000 + "}", "line 2 is not JSON"),
        (f"{ROW}\n".encode() + b'{"n": "\xff"}', "line 2 is not in UTF-8: save the file as UTF-8"),
        (ROW.encode("utf-16-le"), "NUL byte, which no text in UTF-8 has: save the file as UTF-8"),
        (b"\xff\xfe{", "not in UTF-16"),
        (gzip.compress(ROW.encode(), mtime=0)[:-9], "is cut off or damaged"),
        (gzip.compress(ROW.encode(), mtime=0)[:12] + b"\xff" * 9, "is cut off or damaged"),
        (b"PK\x03\x04..", "is a zip archive: unpack it"),
        (gzip.compress(gzip.compress(ROW.encode(), mtime=0), mtime=0), "is gzipped twice: unpack it"),
        (b"\x28\xb5\x2f\xfd..", "is compressed with zstd"),
        (b"PAR1..", "cannot be read as parquet"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"prompt,chosen\nQ,A\n", "line 1 is not JSON"),
    ],
)
def test_unreadable_file_is_named(tmp_path, content, says):
    file = tmp_path / "data.jsonl"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadTask) as failed:
        list(read_rows(file))
    assert str(failed.value).startswith(str(file))
    assert says in str(failed.value)


def test_line_and_row_are_counted(tmp_path):
    (tmp_path / "data.jsonl").write_text(f"\n{ROW}\n\n{ROW}")
    assert [(row.number, row.line) for row in read_rows(tmp_path / "data.jsonl")] == [(1, 2), (2, 4)]


def test_folder_names_other_files(tmp_path):
    for name in (
        "b/TRAIN.Parquet",
        "a.ndjson",
        "c.JSON.gz",
        "README.md",
        "x.csv",
        "dataset_infos.json",
        "._a.jsonl",
        ".git/d.json",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    data, others = list_folder(tmp_path)
    assert [file.name for file in data] == ["a.ndjson", "TRAIN.Parquet", "c.JSON.gz"]
    assert others == ["._a.jsonl", "README.md", "dataset_infos.json", "x.csv"]


def test_folder_names_links_that_lead_nowhere(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path)
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "missing.jsonl")
    data, others = list_folder(tmp_path)
    assert ([file.name for file in data], others) == (["b.jsonl"], ["a"])


def test_decode_removes_the_mark():
    assert {decode(codecs.BOM_UTF8 + b"a: 1"), decode("a: 1".encode("utf-16")), decode(b"a: 1")} == {"a: 1"}
