"""Cells and tables of Markdown reports; names from data are text, without Markdown, HTML and controls."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence

from grm_service.evaluation.bias import Share
from grm_service.evaluation.stats import Interval
from grm_service.printable import printable_line

# An underscore within a word formats nothing, so names such as reward_bench stay as they are.
_FORMATS = re.compile(r"[\\`*\[\]|!#~$]|(?<!\w)_|_(?!\w)")


class Marked(str):
    """Markdown that this package wrote; any other text in a cell is escaped."""

    __slots__ = ()


def escape(text: str) -> Marked:
    """Return the Markdown that shows a text of others in one line as it is."""
    if isinstance(text, Marked):
        return text
    return Marked(_FORMATS.sub(r"\\\g<0>", html.escape(printable_line(text), quote=False)))


def bold(text: str) -> Marked:
    """Return a text in bold."""
    return Marked(f"**{escape(text)}**")


def code(text: str) -> Marked:
    """Return a text in one line as code; a backtick, which would end it, becomes an apostrophe."""
    return Marked(f"`{printable_line(text).replace('`', chr(39))}`")


def percent(value: float | None, interval: Interval | None = None) -> Marked:
    """Format a share as a percentage, with its interval if there is one."""
    if value is None:
        return Marked("-")
    return Marked(f"{value:.1%}" + (f" [{interval.low:.1%}, {interval.high:.1%}]" if interval else ""))


def tokens(value: float | None) -> str:
    """Format a mean number of tokens."""
    return "unknown" if value is None else f"{value:.0f}"


def points(value: float, interval: Interval) -> Marked:
    """Format a difference of shares in percentage points."""
    # Adding 0 turns the -0.0 of rounding into 0.0.
    middle, low, high = (round(100 * x, 1) + 0.0 for x in (value, interval.low, interval.high))
    return Marked(f"{middle:+.1f} [{low:+.1f}, {high:+.1f}]")


def share(value: Share) -> list[str]:
    """Return the cells of a share: its n, and its percentage with the interval."""
    return [str(value.n), percent(value.value, value.interval)]


def listed(reasons: Mapping[str, int], label: str = "") -> str:
    """Format counts by reason, in parentheses after the label; "" if there are none."""
    return f"{label} ({', '.join(f'{escape(code)} {n}' for code, n in reasons.items())})" if reasons else ""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the cells may have any text, which is escaped unless it is Marked."""
    lines = [map(escape, header), ["---"] * len(header), *(map(escape, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
