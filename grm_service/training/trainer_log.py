"""What trainers log, as JSON Lines and as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grm_service.errors import MissingExtra

Logged = Mapping[str, Any]


def watch(trainer: Any, file: Path) -> None:
    """A bar with the time left, and a line of the file for each time that the trainer logs."""
    from transformers import ProgressCallback

    class LogCallback(ProgressCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Logged | None = None, **_: Any) -> None:
            if state.is_world_process_zero and logs:
                with file.open("a", encoding="utf-8") as out:
                    out.write(json.dumps({"step": state.global_step, **logs}) + "\n")

    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(LogCallback())


def last(history: Sequence[Logged], name: str) -> Any:
    """The value that was logged last, None where there is none."""
    return next((each[name] for each in reversed(history) if name in each), None)


def draw(log: Path, names: Mapping[str, str], picture: Path) -> bool:
    """Draws what was logged under these names, one curve a panel with its title.

    False where nothing was logged. Raises MissingExtra without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("eval", "pictures") from None
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    curves = {
        title: [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        for name, title in names.items()
    }
    found = {title: curve for title, curve in curves.items() if curve}
    if not found:
        return False
    figure = Figure(figsize=(8, 1.9 * len(found)), dpi=100, layout="constrained")
    for axes, (title, curve) in zip(
        figure.subplots(len(found), sharex=True, squeeze=False)[:, 0], found.items(), strict=True
    ):
        axes.plot(*zip(*curve, strict=True), color="#1f5fa8", marker="." if len(curve) < 30 else "")
        axes.set_title(title, fontsize=11, loc="left")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    axes.set_xlabel("step")
    figure.savefig(picture)
    return True
