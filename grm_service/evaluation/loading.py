"""Load preference data from files or from the Hugging Face Hub as items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from grm_service.data_files import Row, is_data_file, list_folder, read_rows
from grm_service.errors import BadTask, MissingExtra, UnknownName
from grm_service.evaluation.dataset import SAME_RESPONSES, Item, SkippedRow, with_unique_ids
from grm_service.evaluation.formats import FORMATS, detect_format
from grm_service.row_values import RawRow


@dataclass(frozen=True, slots=True)
class Dataset:
    """The items of a data set, the number of rows that were left out, by reason, and the files not read."""

    items: list[Item]
    left_out: Counter[str]
    unread: tuple[str, ...] = ()


def load(data: str, format_: str | None = None) -> Dataset:
    """Load a file, a folder of files, or OWNER/NAME[:SPLIT] of the Hub; all rows are checked.

    Without `format_` the format of each row is detected by its columns. Raises BadTask with the row that
    cannot be read, UnknownName for an unknown format, MissingExtra if the Hub or parquet needs `datasets`.
    """
    if format_ is not None and format_ not in FORMATS:
        raise UnknownName("format", format_, list(FORMATS))
    rows, unread = _rows(data)
    items, left_out = list[Item](), Counter[str]()
    for row in rows:
        try:
            read = _row_items(row, format_)
            items += (comparable := [item for item in read if not item.has_same_responses])
            left_out[SAME_RESPONSES] += len(read) - len(comparable)
        except SkippedRow as reason:
            left_out[str(reason)] += 1
    left_out = +left_out
    if not items:
        reasons = [f"{n} rows left out: {reason}" for reason, n in left_out.items()]
        reasons += [f"not read: {', '.join(unread)}"] if unread else []
        raise BadTask("; ".join([f"{data} has no item that can be judged", *reasons]))
    return Dataset(with_unique_ids(items), left_out, tuple(unread))


def _row_items(row: Row, format_: str | None) -> list[Item]:
    columns = row.columns
    name = format_ or detect_format(columns)
    if name is None:
        raise BadTask(
            f"{row.place}: no known format has the columns {', '.join(sorted(columns))}; name one with "
            f"--format ({', '.join(FORMATS)})"
        )
    if not FORMATS[name].matches(columns):
        raise BadTask(f"{row.place} is not of the format {name}: see its columns in docs/evaluation.md")
    try:
        items = list(FORMATS[name].read(columns, row.number))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BadTask(f"{row.place} cannot be read as {name}: {error}") from error
    if not items:
        raise SkippedRow("no pair of a right and a wrong response")
    return items


def _rows(data: str) -> tuple[Iterable[Row], list[str]]:
    """Return every row, and the names of the files in a folder that have none."""
    path = Path(data)
    if path.is_dir():
        files, unread = list_folder(path)
        return (row for file in files for row in read_rows(file)), unread
    if path.exists() or is_data_file(path.name) or data.count("/") != 1:
        return read_rows(path), []
    rows = enumerate(_hub_rows(data), 1)
    return (Row(f"{data}, row {number}", number, number, row) for number, row in rows), []


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
