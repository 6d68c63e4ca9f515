"""Rows from files, or from a hub, as items."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from grm_service.errors import BadTask, MissingExtra, UnknownName
from grm_service.evaluation.dataset import Item, unique
from grm_service.evaluation.formats import READERS, NothingToJudge, Row, detect

_KINDS = (".jsonl", ".json", ".jsonl.gz", ".json.gz")


@dataclass(frozen=True, slots=True)
class Data:
    """What was read: the items, and how many rows were left out, by reason."""

    items: list[Item]
    left_out: Counter[str]


def read(data: str, format_: str | None = None) -> Data:
    """Items of a file (JSON Lines, or one list of JSON), of all such files in a folder, or of the hub's
    OWNER/NAME[:SPLIT].

    Raises BadTask with the row that cannot be read, UnknownName for a format, MissingExtra for a hub.
    """
    if format_ is not None and format_ not in READERS:
        raise UnknownName("format", format_, list(READERS))
    left_out, found = Counter[str](), list[Item]()
    for where, number, row in _rows(data):
        name = format_ or detect(row)
        if name is None:
            raise BadTask(
                f"{where}: no known format has the columns {', '.join(sorted(row))}; name one with --format "
                f"({', '.join(READERS)})"
            )
        if not READERS[name].fits(row):
            raise BadTask(f"{where} is not of the format {name}: see its columns in docs/evaluation.md")
        try:
            found += READERS[name].read(row, number)
        except NothingToJudge as why:
            left_out[str(why)] += 1
        except (KeyError, TypeError, ValueError, IndexError) as wrong:
            raise BadTask(f"{where} cannot be read as {name}: {type(wrong).__name__} {wrong}") from wrong
    if not found:
        raise BadTask(f"{data} has no item that can be judged")
    return Data(unique(found), left_out)


def _rows(data: str) -> Iterator[tuple[str, int, Row]]:
    path = Path(data)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.name.endswith(_KINDS))
    elif path.exists() or data.endswith(_KINDS) or data.count("/") != 1:
        files = [path]
    else:
        for number, row in enumerate(_hub(data), 1):
            yield f"{data}, row {number}", number, row
        return
    for file in files:
        for number, row in enumerate(_file(file), 1):
            if not isinstance(row, dict):
                raise BadTask(f"{file}, row {number} is no JSON object")
            yield f"{file}, row {number}", number, row


def _file(path: Path) -> Iterator[Row]:
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            if ".jsonl" in path.suffixes:
                yield from (json.loads(line) for line in file if line.strip())
            else:
                read = json.load(file)
                yield from read if isinstance(read, list) else [read]
    except OSError as wrong:
        raise BadTask(f"{path} cannot be read: {wrong}") from None
    except ValueError as wrong:
        raise BadTask(f"{path} is not JSON: {wrong}") from None


def _hub(data: str) -> Iterable[Row]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise MissingExtra("train", f"{data} is no file; a data set of the hub") from None
    name, _, split = data.partition(":")
    try:
        found = load_dataset(name, split=split or None)
    except Exception as wrong:
        raise BadTask(f"{name} cannot be had from the hub: {wrong}") from wrong
    if isinstance(found, dict) and len(found) > 1:
        raise BadTask(
            f"{name} has the splits {', '.join(found)}: ask for one, such as {name}:{next(iter(found))}"
        )
    rows: Iterable[Row] = next(iter(found.values())) if isinstance(found, dict) else found
    return rows
