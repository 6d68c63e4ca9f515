"""Load and validate a YAML file; errors name file, line and field."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from grm_service.data_files import decode
from grm_service.errors import CatalogError

T = TypeVar("T")


def is_yaml(name: str | Path) -> bool:
    """Return whether a file has the ending of YAML, in lower or upper case."""
    return str(name).lower().endswith((".yaml", ".yml"))


def load(kind: type[T], path: Path) -> tuple[T, Callable[..., int]]:
    """Return the validated value of a file, and a function from a field's path to its line.

    Raises CatalogError.
    """
    data = _read(path)
    try:
        loaded = TypeAdapter(kind).validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as invalid:
        raise CatalogError("\n".join(_describe(path, data, error) for error in invalid.errors())) from None
    return loaded, lambda *loc: _line(data, loc)


def _read(path: Path) -> Any:
    try:
        # Round-trip mode records the line of every field and rejects duplicate keys.
        return YAML(typ="rt", pure=True).load(decode(path.read_bytes()))
    except MarkedYAMLError as invalid:
        mark = invalid.problem_mark or invalid.context_mark
        raise CatalogError(f"{path}:{mark.line + 1 if mark else 1}: {invalid.problem}") from None
    except (OSError, ValueError) as error:
        raise CatalogError(f"{path}: cannot be read: {error}") from None


def _describe(path: Path, data: Any, error: Mapping[str, Any]) -> str:
    field = ".".join(str(part) for part in error["loc"])
    message = "unknown field" if error["type"] == "unexpected_keyword_argument" else error["msg"]
    return f"{path}:{_line(data, error['loc'])}: {field or 'file'}: {message}"


def _line(data: Any, loc: tuple[int | str, ...]) -> int:
    """Return the line of the innermost part of `loc` that is in the file."""
    line = 1
    for part in loc:
        marks = getattr(data, "lc", None)
        if marks is None or marks.data is None or part not in marks.data:
            break
        line = marks.data[part][0] + 1
        data = data[part]
    return line
