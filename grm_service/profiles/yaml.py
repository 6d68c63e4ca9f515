"""Load and validate a YAML file; errors name file, line and field."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from grm_service.data_files import NotUnicode, decode
from grm_service.errors import CatalogError
from grm_service.profiles.yaml_nodes import BadYAML, Loc, parse

T = TypeVar("T")
_MAX_BYTES = 128 << 10
"""A larger file is no profile, principle set or list of keys (1,000: 124 KB), and takes seconds to parse."""


def is_yaml(name: str | Path) -> bool:
    """Return whether a file has the ending of YAML, in lower or upper case."""
    return str(name).lower().endswith((".yaml", ".yml"))


def load(kind: type[T], path: Path) -> tuple[T, Callable[..., int]]:
    """Return the validated value of a file, and a function from a field's path to its line.

    Raises CatalogError.
    """
    try:
        data, lines = parse(_read(path))
        adapter = _adapter(kind)  # type: ignore[arg-type]  # types are hashable
        loaded: T = adapter.validate_json(json.dumps(data), strict=True)
    except BadYAML as invalid:
        raise CatalogError(_describe(path, invalid.line, invalid.loc, invalid.message)) from None
    except ValidationError as invalid:
        described = (
            _describe(path, _line(lines, error["loc"]), error["loc"], _message(error["type"], error["msg"]))
            for error in invalid.errors()
        )
        raise CatalogError("\n".join(described)) from None
    return loaded, lambda *loc: _line(lines, loc)


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _read(path: Path) -> str:
    """Return the text of a regular file. Raises CatalogError.

    A FIFO would wait for a writer for ever, and a device may never end.
    """
    try:
        if path.exists() and not path.is_file():
            raise CatalogError(f"{path}: cannot be read: it is no regular file")
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise CatalogError(f"{path}: cannot be read: it is larger than {_MAX_BYTES >> 10} KiB")
        return decode(data)
    except NotUnicode as wrong:
        raise CatalogError(_describe(path, wrong.line, (), wrong.why)) from None
    except (OSError, ValueError) as error:
        raise CatalogError(f"{path}: cannot be read: {error}") from None


def _describe(path: Path, line: int, loc: Loc, message: str) -> str:
    return f"{path}:{line}: {'.'.join(map(str, loc)) or 'file'}: {message}"


def _message(kind: str, message: str) -> str:
    return "unknown field" if kind == "unexpected_keyword_argument" else message


def _line(lines: dict[Loc, int], loc: Loc) -> int:
    """Return the line of the innermost part of `loc` that is in the file."""
    while loc and loc not in lines:
        loc = loc[:-1]
    return lines.get(loc, 1)
