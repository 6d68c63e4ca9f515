"""The judge options as CLI flags, built from `types.JudgeOptions` for every command that judges."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any, cast, get_args, get_type_hints

import typer
from annotated_types import Ge, Gt, Le
from typing_extensions import Doc

from grm_service.errors import BadTask
from grm_service.types import JudgeOptions, PrincipleMode, PrincipleSpec

Given = dict[str, Any]
"""The options that the person gave, by the names of JudgeOptions."""
_HINTS = get_type_hints(JudgeOptions, include_extras=True)
_PRINCIPLES = "self, query or fixed; MODE:SET names a set, as in fixed:helpfulness."


def judge_options(
    leave_out: tuple[str, ...] = (), flags: Mapping[str, str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the judge options; its parameter `given` gets those that were set on the command line.

    `leave_out` names options that the command has no use for, `flags` other flags for some of them (where the
    command's own --max-tokens is a policy's, say).
    """
    names = [field.name for field in fields(JudgeOptions) if field.name not in leave_out]
    flag_of = {name: (flags or {}).get(name, name) for name in names}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            taken = {name: values.pop(flag_of[name]) for name in names}
            given = {name: value for name, value in taken.items() if value is not None}
            command(**values, given=given)

        signature = inspect.signature(command)
        own = [each for each in signature.parameters.values() if each.name != "given"]
        added = [
            inspect.Parameter(
                flag_of[name], inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_option(name)
            )
            for name in names
        ]
        hints = get_type_hints(command, include_extras=True)
        kept = [
            each.replace(annotation=hints[each.name], kind=inspect.Parameter.KEYWORD_ONLY) for each in own
        ]
        run.__signature__ = signature.replace(parameters=[*kept, *added])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in [*kept, *added]}
        return run

    return decorate


def parse_principles(text: str) -> PrincipleSpec:
    """Return what --principles means: a mode, and after a colon the name of a set. Raises BadTask."""
    mode, _, set_name = text.partition(":")
    if mode not in get_args(PrincipleMode):
        raise BadTask(f"--principles {text!r}: give self, query or fixed, with a set as in fixed:helpfulness")
    return PrincipleSpec(cast("PrincipleMode", mode), set_name or None)


def to_options(given: Given, **changed: Any) -> JudgeOptions:
    """Return the options that were given, with the defaults for the others. Raises BadTask."""
    values = given | changed
    if isinstance(values.get("principles"), str):
        values["principles"] = parse_principles(values["principles"])
    return JudgeOptions(**values)


def _option(name: str) -> Any:
    """Return the annotation of one flag: its type, its bounds and its help."""
    if name == "principles":
        return Annotated[str | None, typer.Option(help=_PRINCIPLES)]
    hint, *metadata = get_args(_HINTS[name])
    bounds: dict[str, Any] = {}
    help_ = ""
    for each in metadata:
        match each:
            case Ge(ge):
                bounds["min"] = ge
            case Gt(gt):
                bounds["min"] = gt
            case Le(le):
                bounds["max"] = le
            case Doc():
                help_ = each.documentation
    return Annotated[hint | None, typer.Option(help=help_, **bounds)]
