"""A YAML file that people edit, as a checked value; what is wrong is named by file, line and field."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from grm_service.errors import CatalogError

T = TypeVar("T")


def load(kind: type[T], path: Path) -> tuple[T, Callable[..., int]]:
    """The file's value, and the line of a field that keys and indices lead to. Raises CatalogError."""
    data = _read(path)
    try:
        loaded = TypeAdapter(kind).validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as wrong:
        raise CatalogError("\n".join(_described(path, data, error) for error in wrong.errors())) from None
    return loaded, lambda *loc: _line(data, loc)


def _read(path: Path) -> Any:
    try:
        # Round-trip mode keeps the line of every field and refuses duplicate keys.
        return YAML(typ="rt", pure=True).load(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as wrong:
        mark = wrong.problem_mark or wrong.context_mark
        raise CatalogError(f"{path}:{mark.line + 1 if mark else 1}: {wrong.problem}") from None
    except (OSError, UnicodeDecodeError) as wrong:
        raise CatalogError(f"{path}: cannot be read: {wrong}") from None


def _described(path: Path, data: Any, error: Mapping[str, Any]) -> str:
    field = ".".join(str(part) for part in error["loc"])
    message = "unknown field" if error["type"] == "unexpected_keyword_argument" else error["msg"]
    return f"{path}:{_line(data, error['loc'])}: {field or 'file'}: {message}"


def _line(data: Any, loc: tuple[int | str, ...]) -> int:
    """The line of the innermost part of `loc` that stands in the file."""
    line = 1
    for part in loc:
        marks = getattr(data, "lc", None)
        if marks is None or marks.data is None or part not in marks.data:
            break
        line = marks.data[part][0] + 1
        data = data[part]
    return line
