"""Names from data in reports and plots are text."""

import re

from grm_service.evaluation.cells import Marked, bold, code, escape, listed, percent, table
from grm_service.evaluation.plots import _plain
from grm_service.printable import is_printable

HOSTILE = (
    "x | 99.9 % |\n\n# Verified: 100 %\n<img src=http://evil/x.png onerror=alert(1)>\n"
    "[click](javascript:alert(1))"
    "![i](http://evil) `c` **b** _i_ ~~s~~ $x^2$ &lt; \\| \x1b[31m\u202e\r"
)


def test_table_has_its_own_cells_only():
    text = table(["source", "n"], [[HOSTILE, "1"], [bold("all"), percent(0.5)]])
    header, rule, row, last = text.split("\n")
    assert (header, rule, last) == ("| source | n |", "| --- | --- |", "| **all** | 50.0% |")
    assert row.replace("\\|", "").count("|") == 3
    assert is_printable(row)


def test_nothing_formats():
    unescaped = re.sub(r"\\.", "", escape(HOSTILE))
    assert not set("<>`*[]|!#~$\\") & set(unescaped)
    assert "&amp;lt;" in unescaped


def test_code_ends_where_it_should():
    assert code("a`b\n<i>\x1b") == "`a'b\\n<i>\\x1b`"


def test_heading_stays_one_line():
    assert "\n" not in f"# {escape(HOSTILE)}"
    assert "\n" not in listed({HOSTILE: 1}, "samples")


def test_ordinary_names_are_unchanged():
    for name in ("reward_bench-2", "Qwen/Qwen3-8B", "data.jsonl:test", "数学", "a (b), c; d+e"):
        assert escape(name) == name


def test_marked_text_is_escaped_once():
    assert escape(escape("a*b")) == "a\\*b"
    assert not isinstance(escape("a") + "*", Marked)


def test_plots_show_no_formulas():
    assert _plain("$x^2$\x1b") == "\\$x^2\\$\\x1b"
    assert len(_plain("a" * 100)) == 40
