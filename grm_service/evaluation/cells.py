"""Cells and tables of Markdown reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from grm_service.evaluation.bias import Share
from grm_service.evaluation.stats import Interval


def percent(value: float | None, interval: Interval | None = None) -> str:
    """Format a share as a percentage, with its interval if there is one."""
    if value is None:
        return "-"
    return f"{value:.1%}" + (f" [{interval.low:.1%}, {interval.high:.1%}]" if interval else "")


def tokens(value: float | None) -> str:
    """Format a mean number of tokens."""
    return "unknown" if value is None else f"{value:.0f}"


def points(value: float, interval: Interval) -> str:
    """Format a difference of shares in percentage points."""
    # Adding 0 turns the -0.0 of rounding into 0.0.
    middle, low, high = (round(100 * x, 1) + 0.0 for x in (value, interval.low, interval.high))
    return f"{middle:+.1f} [{low:+.1f}, {high:+.1f}]"


def share(value: Share) -> list[str]:
    """Return the cells of a share: its n, and its percentage with the interval."""
    return [str(value.n), percent(value.value, value.interval)]


def listed(reasons: Mapping[str, int], label: str = "") -> str:
    """Format counts by reason, in parentheses after the label; "" if there are none."""
    return f"{label} ({', '.join(f'{code} {n}' for code, n in reasons.items())})" if reasons else ""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the cells may have any text."""
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
