"""The judge options as pydantic fields, built from `types.JudgeOptions` for every request model."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_type_hints
from urllib.parse import parse_qsl

from annotated_types import BaseMetadata
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from typing_extensions import Doc

from grm_service.errors import BadSetting
from grm_service.types import JudgeOptions, PrincipleMode, PrincipleSpec

Model = TypeVar("Model", bound=BaseModel)
_HINTS = get_type_hints(JudgeOptions, include_extras=True)
NAMES = tuple(field.name for field in fields(JudgeOptions) if field.name != "principles")
"""The options that are numbers or choices. Principles are spelled differently in JSON and in a URL."""


class _Options(BaseModel):
    if TYPE_CHECKING:
        timeout_s: float | None

    def to_options(self, principles: PrincipleSpec) -> JudgeOptions:
        """Return the options of a request."""
        return JudgeOptions(**{name: getattr(self, name) for name in NAMES}, principles=principles)


def _definition(name: str, default: object) -> tuple[Any, Any]:
    """Return a field's type and default: bounds stay on the number, not on the null beside it."""
    hint, *metadata = get_args(_HINTS[name])
    bounds = [each for each in metadata if isinstance(each, BaseMetadata)]
    description = next(each.documentation for each in metadata if isinstance(each, Doc))
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    number = kinds[0] if type(None) in get_args(hint) else hint
    if number is float:
        bounds.append(Field(allow_inf_nan=False))
    bounded: Any = Annotated[number, *bounds] if bounds else number
    return (bounded | None if number is not hint else bounded), Field(default, description=description)


if TYPE_CHECKING:
    JudgeOptionFields = _Options
else:
    JudgeOptionFields = create_model(
        "JudgeOptionFields",
        __base__=_Options,
        **{
            field.name: _definition(field.name, field.default)
            for field in fields(JudgeOptions)
            if field.name in NAMES
        },
    )


class JudgeQueryOptions(JudgeOptionFields):
    """The judge options in a query string; `principles` is the name of a set, `mode` its use."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    principles: str | None = Field(None, max_length=200, description="A named set.")
    mode: PrincipleMode = Field(
        "self", description="Source of the principles; with self and query, a set is the constitution."
    )

    @property
    def judge_options(self) -> JudgeOptions:
        """The options, with the principles that `mode` and the set name."""
        return self.to_options(PrincipleSpec(self.mode, self.principles))


def parse_judge_options(setting: str, text: str) -> JudgeOptions:
    """Return the judge options of a setting, written as in a URL: `k=4&score=soft`. Raises BadSetting."""
    return parse_query_string(JudgeQueryOptions, setting, text).judge_options


def parse_query_string(model: type[Model], setting: str, text: str) -> Model:
    """Return a model of the options of a setting, written as in a URL. Raises BadSetting."""
    try:
        return model.model_validate(dict(parse_qsl(text, keep_blank_values=True)))
    except ValidationError as invalid:
        errors = "; ".join(f"{error['loc'][0]}: {error['msg']}" for error in invalid.errors())
        raise BadSetting(f"{setting}: {errors}") from None
