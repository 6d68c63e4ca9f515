"""docs/structure.md describes the package as it is."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "grm_service"
TEXT = (ROOT / "docs/structure.md").read_text(encoding="utf-8")


def test_every_module_is_described():
    described = set()
    for section in re.split(r"^### ", TEXT, flags=re.MULTILINE)[1:]:
        folder = re.match(r"`(\w+)/`", section)
        names = re.findall(r"^\| `([\w/]+)` \|", section, re.MULTILINE)
        described |= {f"{folder[1]}/{name}" if folder else name for name in names}
    modules = {
        path.relative_to(PACKAGE).with_suffix("").as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py" and "migrations" not in path.parts
    }
    assert described == modules


def test_places_to_change_exist():
    table = TEXT.partition("## Where to change what")[2].partition("## Glossary")[0]
    paths = re.findall(r"`([\w/]+(?:\.py|\.yaml|/))`", table)
    assert len(paths) > 15
    assert [path for path in paths if not (PACKAGE / path).exists()] == []


def test_glossary_is_short():
    glossary = TEXT.partition("## Glossary")[2].partition("##")[0]
    words = re.findall(r"^\| ([^|]+?) \|", glossary, re.MULTILINE)[2:]
    assert sum(len(row.split(",")) for row in words) <= 30
