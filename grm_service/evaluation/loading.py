"""Load preference data from files or from the Hugging Face Hub as items."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from grm_service.errors import BadTask, MissingExtra, UnknownName
from grm_service.evaluation.dataset import Item, with_unique_ids
from grm_service.evaluation.formats import FORMATS, RawRow, SkippedRow, detect_format

_SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz")


@dataclass(frozen=True, slots=True)
class Dataset:
    """The items of a data set, and the number of rows that were left out, by reason."""

    items: list[Item]
    left_out: Counter[str]


def load(data: str, format_: str | None = None) -> Dataset:
    """Load a file (JSON Lines, or one JSON list), a folder of such files, or OWNER/NAME[:SPLIT] of the Hub.

    Without `format_` the format of each row is detected by its columns. Raises BadTask with the row that
    cannot be read, UnknownName for an unknown format, MissingExtra if the Hub needs `datasets` installed.
    """
    if format_ is not None and format_ not in FORMATS:
        raise UnknownName("format", format_, list(FORMATS))
    items, left_out = list[Item](), Counter[str]()
    for location, number, row in _rows(data):
        try:
            items += _row_items(location, number, row, format_)
        except SkippedRow as reason:
            left_out[str(reason)] += 1
    if not items:
        raise BadTask(f"{data} has no item that can be judged")
    return Dataset(with_unique_ids(items), left_out)


def _row_items(location: str, number: int, row: RawRow, format_: str | None) -> list[Item]:
    name = format_ or detect_format(row)
    if name is None:
        raise BadTask(
            f"{location}: no known format has the columns {', '.join(sorted(row))}; name one with --format "
            f"({', '.join(FORMATS)})"
        )
    if not FORMATS[name].matches(row):
        raise BadTask(f"{location} is not of the format {name}: see its columns in docs/evaluation.md")
    try:
        return list(FORMATS[name].read(row, number))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BadTask(f"{location} cannot be read as {name}: {type(error).__name__} {error}") from error


def _rows(data: str) -> Iterator[tuple[str, int, RawRow]]:
    """Yield every row with its location for error messages and its number, from 1."""
    path = Path(data)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.name.endswith(_SUFFIXES))
    elif path.exists() or data.endswith(_SUFFIXES) or data.count("/") != 1:
        files = [path]
    else:
        for number, row in enumerate(_hub_rows(data), 1):
            yield f"{data}, row {number}", number, row
        return
    for file in files:
        for number, row in enumerate(_file_rows(file), 1):
            if not isinstance(row, dict):
                raise BadTask(f"{file}, row {number} is no JSON object")
            yield f"{file}, row {number}", number, row


def _file_rows(path: Path) -> Iterator[RawRow]:
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            if ".jsonl" in path.suffixes:
                yield from (json.loads(line) for line in file if line.strip())
            else:
                content = json.load(file)
                yield from content if isinstance(content, list) else [content]
    except OSError as error:
        raise BadTask(f"{path} cannot be read: {error}") from None
    except ValueError as error:
        raise BadTask(f"{path} is not JSON: {error}") from None


def _hub_rows(data: str) -> Iterable[RawRow]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise MissingExtra("train", f"{data} is not a file, and loading it from the Hub") from None
    name, _, split = data.partition(":")
    try:
        loaded = load_dataset(name, split=split or None)
    except Exception as error:
        raise BadTask(f"{name} cannot be loaded from the Hub: {error}") from error
    if isinstance(loaded, dict) and len(loaded) > 1:
        raise BadTask(
            f"{name} has the splits {', '.join(loaded)}: choose one, such as {name}:{next(iter(loaded))}"
        )
    rows: Iterable[RawRow] = next(iter(loaded.values())) if isinstance(loaded, dict) else loaded
    return rows
