"""Reports and comparisons as files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from pydantic import TypeAdapter, ValidationError

from grm_service.errors import BadTask, MissingExtra, UnknownName
from grm_service.evaluation import markdown, plots
from grm_service.evaluation.compare import ComparedRun, Comparisons, compare_all
from grm_service.evaluation.report import EvalReport
from grm_service.evaluation.run_folder import read_items, read_setup
from grm_service.evaluation.votes import SERVED, VOTES, VoteKind

_REPORT, _COMPARISONS = TypeAdapter(EvalReport), TypeAdapter(Comparisons)


def write_report(found: EvalReport, folder: Path) -> str:
    """Writes report.json, report.md and, with matplotlib, pictures; gives the Markdown."""
    (folder / "report.json").write_bytes(_REPORT.dump_json(found, indent=2) + b"\n")
    drawn: list[str] = []
    with suppress(MissingExtra):
        drawn = plots.draw(found, folder)
    text = markdown.report(found, drawn)
    (folder / "report.md").write_text(text, encoding="utf-8")
    return text


def write_comparison(asked: Sequence[str], folder: Path | None) -> str:
    """Compares runs, each FOLDER or FOLDER@VOTE, and gives the Markdown.

    Where asked to, writes compare.json, compare.md and, with matplotlib, a picture. Raises BadTask where a
    folder holds no run, or they cannot be compared.
    """
    short = [Path(each).name for each in asked]
    names = short if len({*short}) == len(short) else asked
    found = compare_all([_run(*each) for each in zip(asked, names, strict=True)])
    drawn: list[str] = []
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "compare.json").write_bytes(_COMPARISONS.dump_json(found, indent=2) + b"\n")
        with suppress(MissingExtra):
            drawn = plots.draw_comparisons(found, folder)
    text = markdown.comparisons(found, drawn)
    if folder is not None:
        (folder / "compare.md").write_text(text, encoding="utf-8")
    return text


def read_report(file: Path) -> EvalReport:
    """A report.json. Raises BadTask where it is none."""
    try:
        return _REPORT.validate_json(file.read_bytes())
    except (OSError, ValidationError) as wrong:
        raise BadTask(f"{file} is no report of grm eval: {wrong}") from None


def _run(asked: str, name: str) -> ComparedRun:
    folder, at, vote = asked.rpartition("@")
    if not at or "/" in vote:
        folder, vote = asked, SERVED
    if vote not in VOTES:
        raise UnknownName("vote", vote, list(VOTES))
    path = Path(folder)
    return ComparedRun(name, read_setup(path), read_items(path), cast("VoteKind", vote))
