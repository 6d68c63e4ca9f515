"""Tables of results, and the page that they make."""

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
    """One figure; `wanted` is what it should be, `None` where there is no demand on it."""

    what: str
    figure: str
    wanted: str | None = None
    holds: bool | None = None
    seconds: str = ""

    def line(self) -> str:
        mark = {True: "yes", False: "**no**", None: ""}[self.holds]
        return f"| {self.what} | {self.figure} | {self.wanted or ''} | {mark} | {self.seconds} |"


@dataclass(frozen=True)
class Table:
    title: str
    rows: list[Row]
    notes: str = ""

    def text(self) -> str:
        head = "| what | figure | wanted | holds | seconds |\n| --- | --- | --- | --- | --- |"
        lines = "\n".join(row.line() for row in self.rows)
        return f"## {self.title}\n\n{head}\n{lines}\n\n{textwrap.fill(self.notes, 118)}".rstrip() + "\n"


def write(tables: list[Table]) -> None:
    """Puts the tables into the page, each in place of its last one; a table is what one run measured."""
    now = f"{datetime.date.today()} · {_machine()} · {_versions()}"
    kept = _sections()
    kept |= {table.title: f"{table.text()}\n{textwrap.fill(now, 118)}\n" for table in tables}
    PAGE.write_text("\n".join([_HEAD, *kept.values()]), encoding="utf-8")


_HEAD = """# Results

Written by `make bench` (`python -m benchmarks PART` renews one part). The ratios of a table were measured
side by side in one run, on the day and the machine named below it.
"""


def _sections() -> dict[str, str]:
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    found = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return {section.partition("\n")[0]: f"## {section.rstrip()}\n" for section in found}


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
