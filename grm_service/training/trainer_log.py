"""The trainer's log as JSON Lines, and its curves as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grm_service.errors import MissingExtra

Logs = Mapping[str, Any]


def add_log_callback(trainer: Any, file: Path) -> None:
    """Make the trainer append a line to the file for each log, and show a progress bar."""
    from transformers import ProgressCallback

    class LogCallback(ProgressCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Logs | None = None, **_: Any) -> None:
            # The parent's on_log would print every log to the terminal.
            if state.is_world_process_zero and logs:
                with file.open("a", encoding="utf-8") as out:
                    out.write(json.dumps({"step": state.global_step, **logs}) + "\n")

    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(LogCallback())


def last_value(history: Sequence[Logs], name: str) -> Any:
    """Return the last logged value of a name, None if there is none."""
    return next((logs[name] for logs in reversed(history) if name in logs), None)


def plot_curves(log: Path, titles: Mapping[str, str], picture: Path) -> bool:
    """Plot the logged values of each name in `titles`, one panel each.

    Returns False, without a picture, if none was logged. Raises MissingExtra without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("eval", "pictures") from None
    curves = _curves(log, titles)
    if not curves:
        return False
    figure = Figure(figsize=(8, 1.9 * len(curves)), dpi=100, layout="constrained")
    panels = figure.subplots(len(curves), sharex=True, squeeze=False)[:, 0]
    for axes, (title, points) in zip(panels, curves.items(), strict=True):
        axes.plot(*zip(*points, strict=True), color="#1f5fa8", marker="." if len(points) < 30 else "")
        axes.set_title(title, fontsize=11, loc="left")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    axes.set_xlabel("step")
    figure.savefig(picture)
    return True


def _curves(log: Path, titles: Mapping[str, str]) -> dict[str, list[tuple[int, float]]]:
    """Return the (step, value) points of each title that has any."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    curves = {
        title: [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        for name, title in titles.items()
    }
    return {title: points for title, points in curves.items() if points}
