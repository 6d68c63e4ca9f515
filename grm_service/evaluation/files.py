"""Write reports and comparisons to files, and read runs and reports."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from pydantic import TypeAdapter, ValidationError

from grm_service.errors import BadTask, MissingExtra, UnknownName
from grm_service.evaluation import markdown, plots
from grm_service.evaluation.comparison import ComparedRun, Comparisons
from grm_service.evaluation.outcomes import SERVED_VOTE, VOTES, VoteKind
from grm_service.evaluation.report import EvalReport
from grm_service.evaluation.run_folder import read_items, read_setup

_REPORT, _COMPARISONS = TypeAdapter(EvalReport), TypeAdapter(Comparisons)


def write_report(report: EvalReport, folder: Path) -> None:
    """Write report.json, report.md and, if matplotlib is installed, plots."""
    (folder / "report.json").write_bytes(_REPORT.dump_json(report, indent=2) + b"\n")
    drawn: list[str] = []
    with suppress(MissingExtra):
        drawn = plots.draw_report(report, folder)
    (folder / "report.md").write_text(markdown.render_report(report, drawn), encoding="utf-8")


def write_comparisons(comparisons: Comparisons, folder: Path) -> None:
    """Write compare.json, compare.md and, if matplotlib is installed, a plot."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compare.json").write_bytes(_COMPARISONS.dump_json(comparisons, indent=2) + b"\n")
    drawn: list[str] = []
    with suppress(MissingExtra):
        drawn = plots.draw_comparisons(comparisons, folder)
    (folder / "compare.md").write_text(markdown.render_comparisons(comparisons, drawn), encoding="utf-8")


def read_report(file: Path) -> EvalReport:
    """Read a report.json. Raises BadTask if it is none."""
    try:
        return _REPORT.validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise BadTask(f"{file} is no report of grm eval: {error}") from None


def read_runs(paths: Sequence[str]) -> list[ComparedRun]:
    """Read runs, each FOLDER or FOLDER@VOTE. Raises UnknownName for an unknown vote, else BadTask."""
    # Folder names are enough for tables, unless two are the same.
    short = [Path(path).name for path in paths]
    names = short if len({*short}) == len(short) else paths
    return [_read_run(path, name) for path, name in zip(paths, names, strict=True)]


def _read_run(path: str, name: str) -> ComparedRun:
    folder, at, vote = path.rpartition("@")
    if not at or "/" in vote:  # an @ in a parent folder's name is not a vote
        folder, vote = path, SERVED_VOTE
    if vote not in VOTES:
        raise UnknownName("vote", vote, list(VOTES))
    setup = read_setup(Path(folder))
    if vote != SERVED_VOTE and setup.stop != "none":
        raise BadTask(
            f"{path}: stop {setup.stop!r} ended these items early by their mean scores, so other votes over "
            "their samples are not comparable: judge without --stop"
        )
    return ComparedRun(name, setup, read_items(Path(folder)), cast("VoteKind", vote))
