"""The judge options as CLI flags, built from `types.JudgeOptions` for every command that judges."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any, cast, get_args, get_type_hints

import typer
from annotated_types import Ge, Gt, Le
from pydantic import TypeAdapter, ValidationError
from typing_extensions import Doc

from grm_service.errors import BadTask
from grm_service.types import JudgeOptions, PrincipleMode, PrincipleSpec

Given = dict[str, Any]
"""The options from the command line, by their names in JudgeOptions."""
_HINTS = get_type_hints(JudgeOptions, include_extras=True)
_PRINCIPLES = "self, query or fixed; MODE:SET adds a named set, as in fixed:helpfulness."


def judge_options(
    leave_out: tuple[str, ...] = (), flags: Mapping[str, str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the judge options to a command, whose parameter `given` receives those on the command line.

    `leave_out` names options that the command does not have. `flags` maps options to other flag names, for
    instance if the command's own --max-tokens is the policy's.
    """
    names = [field.name for field in fields(JudgeOptions) if field.name not in leave_out]
    flag_of = {name: (flags or {}).get(name, name) for name in names}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            options = {name: values.pop(flag_of[name]) for name in names}
            command(**values, given={name: value for name, value in options.items() if value is not None})

        # Typer reads a command's flags from its signature.
        parameters = [*_own_parameters(command), *(_parameter(flag_of[name], name) for name in names)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def parse_principles_flag(text: str) -> PrincipleSpec:
    """Return the principles of --principles: a mode, optionally with a colon and a set. Raises BadTask."""
    mode, _, set_name = text.partition(":")
    if mode not in get_args(PrincipleMode):
        raise BadTask(
            f"--principles {text!r}: use self, query or fixed, optionally with a set as in fixed:helpfulness"
        )
    return PrincipleSpec(cast("PrincipleMode", mode), set_name or None)


def to_options(options: Given, **changed: Any) -> JudgeOptions:
    """Return the options from the command line, with defaults for the others.

    `changed` are further options, by name. Raises BadTask if one on the command line is out of its bounds.
    """
    values = dict(options)
    if isinstance(values.get("principles"), str):
        values["principles"] = parse_principles_flag(values["principles"])
    try:
        TypeAdapter(JudgeOptions).validate_python(values)
    except ValidationError as wrong:
        raise BadTask("; ".join(f"{_flag(e['loc'][0])}: {e['msg']}" for e in wrong.errors())) from None
    return JudgeOptions(**(values | changed))


def to_fields(options: Given, field_names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the options from the command line as fields of a JSON request.

    `field_names` maps options to other names of their fields. Raises BadTask.
    """
    values = dict(options)
    if isinstance(values.get("principles"), str):
        spec = parse_principles_flag(values["principles"])
        values["principles"] = {"mode": spec.mode, "set": spec.set_name}
    return {(field_names or {}).get(name, name): value for name, value in values.items()}


def _own_parameters(command: Callable[..., None]) -> list[inspect.Parameter]:
    """Return the command's own parameters without `given`, their annotations resolved."""
    hints = get_type_hints(command, include_extras=True)
    return [
        each.replace(annotation=hints[each.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for each in inspect.signature(command).parameters.values()
        if each.name != "given"
    ]


def _parameter(flag: str, name: str) -> inspect.Parameter:
    return inspect.Parameter(flag, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(name))


def _annotation(name: str) -> Any:
    """Return the annotation of one flag: its type, its bounds and its help."""
    if name == "principles":
        return Annotated[str | None, typer.Option(help=_PRINCIPLES)]
    hint, *metadata = get_args(_HINTS[name])
    option: dict[str, Any] = {}
    for each in metadata:
        match each:
            case Ge(bound) | Gt(bound):
                option["min"] = bound
            case Le(bound):
                option["max"] = bound
            case Doc():
                option["help"] = each.documentation
    return Annotated[hint | None, typer.Option(**option)]


def _flag(name: object) -> str:
    return "--" + str(name).replace("_", "-")
