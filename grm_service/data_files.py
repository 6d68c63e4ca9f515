"""Data files: rows of JSON Lines, a JSON list or parquet, in UTF-8, UTF-16 or UTF-32, gzipped or not."""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

from grm_service.errors import BadTask, MissingExtra
from grm_service.plain_values import is_missing

_SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet")
# UTF-32 before UTF-16: its little-endian mark begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# JSON that `datasets` writes beside the rows.
_METADATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_OTHER_FILES = {
    _GZIP: "gzipped twice: unpack it",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it, or compress it with gzip",
    b"\xfd7zXZ\x00": "compressed with xz: unpack it, or compress it with gzip",
    b"BZh": "compressed with bzip2: unpack it, or compress it with gzip",
    b"ARROW1": "an Arrow file: write it as parquet or JSON Lines",
    b"version https://git-lfs": "a pointer of Git LFS: fetch the file itself with git lfs pull",
}
# Files that were joined have a byte order mark in the middle, too.
_BLANK = re.compile(r"[ \t\r\n\ufeff]*")


class NotUnicode(ValueError):
    """Bytes that are no text: `line` says where, from 1, and `why` what is there."""

    def __init__(self, line: int, why: str) -> None:
        self.line, self.why = line, why
        super().__init__(f"line {line} {why}")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file. `place` names file and line for messages; `number` and `line` count from 1.

    In a JSON list or in parquet, `line` is the number of the row. NaN in a column is null, as in pandas.
    """

    place: str
    number: int
    line: int
    columns: Mapping[str, Any]

    def __post_init__(self) -> None:
        columns = {name: None if is_missing(value) else value for name, value in self.columns.items()}
        object.__setattr__(self, "columns", columns)


def is_data_file(name: str) -> bool:
    """Return whether the name has the ending of a data file, in lower or upper case, with or without .gz."""
    return name.lower().removesuffix(".gz").endswith(_SUFFIXES)


def list_folder(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the data files in a folder and its subfolders, and the names of its other files.

    Hidden folders are skipped: they hold caches and version control. Links to folders are not followed.
    """
    data, others = list[Path](), list[str]()
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        is_folder = file.is_dir() and not file.is_symlink()
        if is_folder or any(part.startswith(".") for part in name.parts[:-1]):
            continue
        if is_data_file(file.name) and not file.name.startswith(".") and file.name not in _METADATA:
            data.append(file)
        else:
            others.append(str(name))
    return data, others


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file, whatever its ending. Raises BadTask, MissingExtra for parquet."""
    data = _unpack(path)
    values = _parquet_rows(path, data) if data.startswith(_PARQUET) else _json_values(path, data)
    for number, (place, line, columns) in enumerate(values, 1):
        if not isinstance(columns, dict):
            raise BadTask(f"{path}, {place} is no JSON object: write one for each row")
        yield Row(f"{path}, {place}", number, line, columns)


def decode(data: bytes) -> str:
    """Return a text in UTF-8, or in UTF-16 or UTF-32 with a byte order mark, without the mark.

    Raises NotUnicode.
    """
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as wrong:
        line = data.count(b"\n", 0, wrong.start) + 1
        raise NotUnicode(line, f"is not in {encoding.upper()}: save the file as UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise NotUnicode(line, "has a NUL byte, which no text in UTF-8 has: save the file as UTF-8")
    return text


def _unpack(path: Path) -> bytes:
    """Return the content of a file, without gzip. Raises BadTask."""
    try:
        data = path.read_bytes()
        if data.startswith(_GZIP):
            data = gzip.decompress(data)
    except (EOFError, gzip.BadGzipFile, zlib.error) as wrong:
        raise BadTask(f"{path} is cut off or damaged, fetch or write it again: {wrong}") from None
    except OSError as wrong:
        raise BadTask(f"{path} cannot be read: {wrong}") from None
    for magic, what in _OTHER_FILES.items():
        if data.startswith(magic):
            raise BadTask(f"{path} is {what}")
    return data


def _parquet_rows(path: Path, data: bytes) -> Iterator[tuple[str, int, Any]]:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise MissingExtra("train", f"{path} is parquet, and reading it") from None
    try:
        batches = ParquetFile(BytesIO(data)).iter_batches()
        for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), 1):
            yield f"row {number}", number, row
    except (OSError, ValueError, NotImplementedError) as wrong:
        raise BadTask(f"{path} cannot be read as parquet: {wrong}") from None


def _json_values(path: Path, data: bytes) -> Iterator[tuple[str, int, Any]]:
    try:
        text = decode(data)
    except ValueError as wrong:
        raise BadTask(f"{path}: {wrong}") from None
    start = _skip_blank(text, 0)
    if text.startswith("[", start):
        yield from _list_values(path, text, start + 1)
        return
    line, counted = 1, 0
    while start < len(text):
        line, counted = line + text.count("\n", counted, start), start
        value, end = _parse(f"{path}, line {line}", text, start)
        yield f"line {line}", line, value
        start = _skip_blank(text, end)


def _list_values(path: Path, text: str, start: int) -> Iterator[tuple[str, int, Any]]:
    number, start = 1, _skip_blank(text, start)
    while not text.startswith("]", start):
        value, end = _parse(f"{path}, row {number}", text, start)
        yield f"row {number}", number, value
        end = _skip_blank(text, end)
        if not text.startswith((",", "]"), end):
            raise BadTask(f"{path}: the JSON list has no comma or end after row {number}")
        start = _skip_blank(text, end + 1) if text.startswith(",", end) else end
        number += 1
    if _skip_blank(text, start + 1) < len(text):
        raise BadTask(f"{path}: there is text after the JSON list; write one list, or an object per line")


def _parse(place: str, text: str, start: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as wrong:
        raise BadTask(
            f"{place} is not JSON: {wrong.msg} (line {wrong.lineno}, column {wrong.colno})"
        ) from None
    except (ValueError, RecursionError) as wrong:
        raise BadTask(f"{place} is not JSON: {wrong}") from None


def _skip_blank(text: str, start: int) -> int:
    blank = _BLANK.match(text, start)
    return blank.end() if blank else start


def _to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    columns = dict(pairs)
    if len(columns) < len(pairs):
        names = Counter(name for name, _ in pairs)
        repeated = next(name for name, times in names.items() if times > 1)
        raise ValueError(f"{repeated!r} is twice in one object: remove one")
    return columns


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no value of JSON: write null")


_DECODER = json.JSONDecoder(object_pairs_hook=_to_object, parse_constant=_refuse_constant)
