"""Result tables and RESULTS.md, the page that they are written to."""

from __future__ import annotations

import datetime
import platform
import re
import textwrap
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

PAGE = Path(__file__).with_name("RESULTS.md")
_PACKAGES = ["grm-service", "openvino-genai", "transformers", "torch", "fastapi", "uvicorn", "httpx"]


@dataclass(frozen=True)
class Row:
    """One figure; `target` is its required value, None if there is none."""

    name: str
    figure: str
    target: str | None = None
    met: bool | None = None
    seconds: str = ""

    def line(self) -> str:
        mark = {True: "yes", False: "**no**", None: ""}[self.met]
        return f"| {self.name} | {self.figure} | {self.target or ''} | {mark} | {self.seconds} |"


@dataclass(frozen=True)
class Table:
    title: str
    rows: list[Row]
    notes: str = ""

    def text(self) -> str:
        head = "| measurement | figure | target | met | seconds |\n| --- | --- | --- | --- | --- |"
        lines = "\n".join(row.line() for row in self.rows)
        return f"## {self.title}\n\n{head}\n{lines}\n\n{textwrap.fill(self.notes, 118)}".rstrip() + "\n"


def write(tables: list[Table]) -> None:
    """Write the tables into the page; each replaces the table of the same title."""
    now = f"{datetime.date.today()} · {_machine()} · {_versions()}"
    sections = _sections()
    sections |= {table.title: f"{table.text()}\n{textwrap.fill(now, 118)}\n" for table in tables}
    PAGE.write_text("\n".join([_HEAD, *sections.values()]), encoding="utf-8")


_HEAD = """# Results

Written by `make bench` (`python -m benchmarks PART` updates one part). The ratios of a table were measured
in one run, on the date and machine below it.
"""


def _sections() -> dict[str, str]:
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return {section.partition("\n")[0]: f"## {section.rstrip()}\n" for section in sections}


def _machine() -> str:
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    memory = psutil.virtual_memory().total / 2**30
    processor = names[0] if names else platform.processor()
    return f"{processor}, {len(names)} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _versions() -> str:
    return " · ".join(f"{name} {_version(name)}" for name in _PACKAGES)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "-"
