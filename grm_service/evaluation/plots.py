"""Pictures of a report, readable at 800 pixels; each says what it shows in its title."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, cast

from grm_service.errors import MissingExtra
from grm_service.evaluation.compare import Comparisons, Curve
from grm_service.evaluation.report import EvalReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _FAINT = "#1f5fa8", "#999999"
_TITLE = 80
"""Characters that a line of a title has room for."""


def draw(found: EvalReport, folder: Path) -> list[str]:
    """Writes them and gives their names. Raises MissingExtra without matplotlib."""
    return [name for name, picture in PICTURES.items() if _saved(partial(picture, found), folder / name)]


def draw_comparisons(found: Comparisons, folder: Path) -> list[str]:
    """As `draw`."""
    name = "accuracy-against-tokens.png"
    return [name] if _saved(partial(curves, found.curves), folder / name) else []


def _saved(picture: Callable[[Axes], bool], file: Path) -> bool:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("eval", "pictures") from None
    figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    if not picture(axes):
        return False
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(file)
    return True


def _title(axes: Axes, says: str) -> None:
    axes.set_title("\n".join(wrap(says, _TITLE, break_on_hyphens=False)), fontsize=12)


def scaling(found: EvalReport, axes: Axes) -> bool:
    """Accuracy against k with its band, tokens beside it."""
    if len(found.scaling) < 2:
        return False
    steps = found.scaling
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
    axes.set_xticks(ks, [f"{step.k}\n{step.tokens:.0f}" for step in steps])
    axes.minorticks_off()
    axes.set_xlabel("samples k, and below it completion tokens an item")
    axes.set_ylabel("share of items")
    axes.legend(frameon=False)
    first, last = steps[0], steps[-1]
    sure = last.gain_interval
    _title(
        axes,
        f"{last.k} samples instead of {first.k}: {first.half:.0%} → {last.half:.0%} right "
        f"(95 % interval of the difference {100 * sure.low:+.0f} to {100 * sure.high:+.0f} points)",
    )
    return True


def reliability(found: EvalReport, axes: Axes) -> bool:
    """How often the vote is right, by its agreement."""
    known = found.calibration
    if known is None:
        return False
    axes.plot([0, 1], [0, 1], ":", color=_FAINT, label="agreement that tells the truth")
    rights = [b.right for b in known.bins]
    axes.errorbar(
        [b.predicted for b in known.bins],
        rights,
        yerr=[
            [max(0.0, b.right - b.interval.low) for b in known.bins],
            [max(0.0, b.interval.high - b.right) for b in known.bins],
        ],
        fmt="o-",
        color=_INK,
        capsize=3,
        label="judge, with 95 % intervals",
    )
    for b in known.bins:
        axes.annotate(f"{b.n}", (b.predicted, b.right), textcoords="offset points", xytext=(6, 6))
    axes.set(xlim=(0, 1.03), ylim=(0, 1.03), xlabel="agreement of the samples", ylabel="share of items right")
    axes.legend(frameon=False, loc="upper left")
    mean = sum(b.n * (b.predicted - b.right) for b in known.bins) / known.n
    how = "surer than it is right" if mean > 0 else "less sure than it is right"
    _title(
        axes,
        f"The judge is {how}, by {100 * abs(mean):.0f} points in the mean "
        f"(calibration error {known.error:.2f})",
    )
    return True


def risk_coverage(found: EvalReport, axes: Axes) -> bool:
    """Accuracy as only the verdicts with the most agreement are kept."""
    known = found.calibration
    if known is None or len(known.risk_coverage) < 2:
        return False
    axes.plot(*zip(*known.risk_coverage, strict=True), "o-", color=_INK, label="the surest are kept")
    axes.axhline(1 - known.area_of_chance, ls=":", color=_FAINT, label="all verdicts")
    axes.set(xlim=(0, 1.03), ylim=(0, 1.03), xlabel="share of verdicts kept", ylabel="share of these right")
    axes.legend(frameon=False, loc="lower left")
    gain = known.area_of_chance - known.area
    says = (
        "helps to find the verdicts that are right" if gain > 0 else "does not tell which verdicts are right"
    )
    _title(axes, f"Agreement {says} (area {known.area:.2f}, by chance {known.area_of_chance:.2f})")
    return True


def sources(found: EvalReport, axes: Axes) -> bool:
    """Accuracy by source with intervals."""
    if found.overall is None:
        return False
    cast("Figure", axes.figure).set_figheight(max(4.5, 1.2 + 0.26 * len(found.by_source)))
    best_last = sorted(found.by_source.items(), key=lambda each: each[1].half)
    names = [f"{name} ({each.n})" for name, each in best_last]
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
    axes.axvline(found.overall.half, ls=":", color=_FAINT)
    axes.set(xlim=(0, 1.03), xlabel="share of items right, ties shared, with 95 % intervals")
    name, most = best_last[-1]
    _title(axes, f"{found.overall.half:.0%} right over all; most on {name} ({most.half:.0%})")
    return True


def curves(found: Sequence[Curve], axes: Axes) -> bool:
    """Accuracy against completion tokens of several runs."""
    for curve in found:
        (line,) = axes.plot(
            [max(1.0, point.tokens) for point in curve.points],
            [point.half for point in curve.points],
            "o-",
            label=f"{curve.run} ({curve.prompt_tokens:,.0f} prompt tokens)",
        )
        last = curve.points[-1]
        axes.errorbar(
            [max(1.0, last.tokens)],
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
                f"{point.k}", (max(1.0, point.tokens), point.half), textcoords="offset points", xytext=(4, 5)
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set(
        xlabel="completion tokens an item; numbers are samples k", ylabel="share of items right, ties shared"
    )
    axes.legend(frameon=False, fontsize=9)
    best, second, *_ = sorted(found, key=lambda curve: -curve.points[-1].half)
    most, next_ = best.points[-1], second.points[-1]
    _title(
        axes,
        f"{best.run} is right most often: {most.half:.0%} at {most.tokens:,.0f} completion tokens an item; "
        f"{second.run} is next: {next_.half:.0%} at {next_.tokens:,.0f}",
    )
    return True


PICTURES: Mapping[str, Callable[[EvalReport, Axes], bool]] = {
    "scaling.png": scaling,
    "sources.png": sources,
    "reliability.png": reliability,
    "risk-coverage.png": risk_coverage,
}
