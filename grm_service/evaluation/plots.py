"""Plots of reports and comparisons, 800 pixels wide, with the finding in the title."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, cast

from grm_service.errors import MissingExtra
from grm_service.evaluation.comparison import Comparisons, Curve
from grm_service.evaluation.report import EvalReport
from grm_service.printable import printable_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _FAINT = "#1f5fa8", "#999999"
_LABEL_WIDTH = 40
"""The longest name of a source or run, in characters."""
_TITLE_WIDTH = 80
"""The width of a title line, in characters."""


def draw_report(report: EvalReport, folder: Path) -> list[str]:
    """Write the plots of a report and return their file names. Raises MissingExtra without matplotlib."""
    return [name for name, plot in PLOTS.items() if _save(partial(plot, report), folder / name)]


def draw_comparisons(comparisons: Comparisons, folder: Path) -> list[str]:
    """Write the plot of a comparison and return its file name. Raises MissingExtra without matplotlib."""
    name = "accuracy-against-tokens.png"
    return [name] if _save(partial(plot_curves, comparisons.curves), folder / name) else []


def _save(plot: Callable[[Axes], bool], file: Path) -> bool:
    """Write a plot, unless there is nothing to show: then `plot` returns False."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("eval", "plotting") from None
    figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    if not plot(axes):
        return False
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(file)
    return True


def _plain(name: str) -> str:
    """Return a name from data as a label, cut to a length that leaves room for the plot."""
    label = printable_line(name)
    label = label if len(label) <= _LABEL_WIDTH else label[: _LABEL_WIDTH - 1] + "…"
    return label.replace("$", r"\$")  # matplotlib reads what is between two dollar signs as a formula


def _title(axes: Axes, text: str) -> None:
    axes.set_title("\n".join(wrap(text, _TITLE_WIDTH, break_on_hyphens=False)), fontsize=12)


def plot_scaling(report: EvalReport, axes: Axes) -> bool:
    """Plot accuracy against k with its interval, and tokens below the axis."""
    if len(report.scaling) < 2:
        return False
    steps = report.scaling
    ks = [step.k for step in steps]
    axes.fill_between(
        ks,
        [step.half_interval.low for step in steps],
        [step.half_interval.high for step in steps],
        color=_INK,
        alpha=0.15,
        label="95 % interval",
    )
    axes.plot(ks, [step.half for step in steps], "o-", color=_INK, label="right, ties shared")
    axes.plot(ks, [step.strict for step in steps], "o--", color=_INK, alpha=0.6, label="strictly right")
    axes.set_xscale("log", base=2)
    axes.set_xticks(
        ks, [str(step.k) if step.tokens is None else f"{step.k}\n{step.tokens:.0f}" for step in steps]
    )
    axes.minorticks_off()
    axes.set_xlabel("samples k, and below it completion tokens per item")
    axes.set_ylabel("share of items")
    axes.legend(frameon=False)
    first, last = steps[0], steps[-1]
    gain = last.gain_interval
    _title(
        axes,
        f"{last.k} samples instead of {first.k}: {first.half:.0%} → {last.half:.0%} right "
        f"(95 % interval of the difference {100 * gain.low:+.0f} to {100 * gain.high:+.0f} points)",
    )
    return True


def plot_reliability(report: EvalReport, axes: Axes) -> bool:
    """Plot the share of right votes against their agreement."""
    calibration = report.calibration
    if calibration is None:
        return False
    axes.plot([0, 1], [0, 1], ":", color=_FAINT, label="perfect calibration")
    rights = [b.right for b in calibration.bins]
    axes.errorbar(
        [b.predicted for b in calibration.bins],
        rights,
        yerr=[
            [max(0.0, b.right - b.interval.low) for b in calibration.bins],
            [max(0.0, b.interval.high - b.right) for b in calibration.bins],
        ],
        fmt="o-",
        color=_INK,
        capsize=3,
        label="judge, with 95 % intervals",
    )
    for b in calibration.bins:
        axes.annotate(f"{b.n}", (b.predicted, b.right), textcoords="offset points", xytext=(6, 6))
    axes.set(xlim=(0, 1.03), ylim=(0, 1.03), xlabel="agreement of the samples", ylabel="share of items right")
    axes.legend(frameon=False, loc="upper left")
    mean_gap = sum(b.n * (b.predicted - b.right) for b in calibration.bins) / calibration.n
    confidence = "overconfident" if mean_gap > 0 else "underconfident"
    _title(
        axes,
        f"The judge is {confidence} by {100 * abs(mean_gap):.0f} points on average "
        f"(calibration error {calibration.error:.2f})",
    )
    return True


def plot_risk_coverage(report: EvalReport, axes: Axes) -> bool:
    """Plot the accuracy of the verdicts with the highest agreement against their share."""
    calibration = report.calibration
    if calibration is None or len(calibration.risk_coverage) < 2:
        return False
    axes.plot(
        *zip(*calibration.risk_coverage, strict=True),
        "o-",
        color=_INK,
        label="verdicts with the highest agreement",
    )
    axes.axhline(1 - calibration.area_of_chance, ls=":", color=_FAINT, label="all verdicts")
    axes.set(xlim=(0, 1.03), ylim=(0, 1.03), xlabel="share of verdicts", ylabel="share of these right")
    axes.legend(frameon=False, loc="lower left")
    effect = "predicts" if calibration.area < calibration.area_of_chance else "does not predict"
    _title(
        axes,
        f"Agreement {effect} which verdicts are right "
        f"(area {calibration.area:.2f}, by chance {calibration.area_of_chance:.2f})",
    )
    return True


def plot_sources(report: EvalReport, axes: Axes) -> bool:
    """Plot accuracy by source with intervals."""
    if report.overall is None:
        return False
    cast("Figure", axes.figure).set_figheight(max(4.5, 1.2 + 0.26 * len(report.by_source)))
    best_last = sorted(report.by_source.items(), key=lambda each: each[1].half)
    names = [f"{_plain(name)} ({each.n})" for name, each in best_last]
    axes.errorbar(
        [each.half for _, each in best_last],
        names,
        xerr=[
            [max(0.0, each.half - each.half_interval.low) for _, each in best_last],
            [max(0.0, each.half_interval.high - each.half) for _, each in best_last],
        ],
        fmt="o",
        color=_INK,
        capsize=3,
    )
    axes.axvline(report.overall.half, ls=":", color=_FAINT)
    axes.set(xlim=(0, 1.03), xlabel="share of items right, ties shared, with 95 % intervals")
    name, highest = best_last[-1]
    _title(axes, f"{report.overall.half:.0%} right overall; highest on {_plain(name)} ({highest.half:.0%})")
    return True


def _on_log_axis(tokens: float | None) -> float:
    return max(1.0, tokens or 0.0)


def plot_curves(curves: Sequence[Curve], axes: Axes) -> bool:
    """Plot accuracy against completion tokens of several runs, if all are known."""
    if any(point.tokens is None for curve in curves for point in curve.points):
        return False
    for curve in curves:
        (line,) = axes.plot(
            [_on_log_axis(point.tokens) for point in curve.points],
            [point.half for point in curve.points],
            "o-",
            label=_plain(curve.run)
            if curve.prompt_tokens is None
            else f"{_plain(curve.run)} ({curve.prompt_tokens:,.0f} prompt tokens)",
        )
        last = curve.points[-1]
        axes.errorbar(
            [_on_log_axis(last.tokens)],
            [last.half],
            yerr=[
                [max(0.0, last.half - last.half_interval.low)],
                [max(0.0, last.half_interval.high - last.half)],
            ],
            color=line.get_color(),
            alpha=0.4,
            capsize=3,
        )
        for point in curve.points:
            axes.annotate(
                f"{point.k}",
                (_on_log_axis(point.tokens), point.half),
                textcoords="offset points",
                xytext=(4, 5),
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set(
        xlabel="completion tokens per item; numbers are samples k", ylabel="share of items right, ties shared"
    )
    axes.legend(frameon=False, fontsize=9)
    best, second, *_ = sorted(curves, key=lambda curve: -curve.points[-1].half)
    first, next_ = best.points[-1], second.points[-1]
    _title(
        axes,
        f"{_plain(best.run)} is right most often: {first.half:.0%} at {first.tokens:,.0f} completion tokens "
        f"per item; {_plain(second.run)} is next: {next_.half:.0%} at {next_.tokens:,.0f}",
    )
    return True


PLOTS: Mapping[str, Callable[[EvalReport, Axes], bool]] = {
    "scaling.png": plot_scaling,
    "sources.png": plot_sources,
    "reliability.png": plot_reliability,
    "risk-coverage.png": plot_risk_coverage,
}
"""By file name; a plot returns False if the report has nothing to show in it."""
