"""Settings of one model over those of the server, and what pydantic says of wrong values."""

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from fastserve.errors import ConfigError

Options = TypeVar("Options", bound=BaseModel)


def is_number(field: FieldInfo) -> bool:
    """Whether a setting takes numbers; truth values it takes by pydantic's leave alone."""
    kinds = {field.annotation, *get_args(field.annotation)}
    return bool(kinds & {int, float})


def first_problem(error: ValidationError) -> tuple[str, str]:
    """Give the place of the first wrong value, its keys with dots between, and what is the matter."""
    first = error.errors(include_url=False)[0]
    return ".".join(str(part) for part in first["loc"]), first["msg"]


def place_and_problem(error: ValidationError) -> str:
    """The same as words; only the problem where the whole is wrong."""
    return ": ".join(filter(None, first_problem(error)))


def overridden(options: Options, settings: Mapping[str, Any], section: str) -> Options:
    """Give the options with known settings over them; ConfigError names the first wrong value."""
    for key, value in settings.items():
        if isinstance(value, bool) and is_number(type(options).model_fields[key]):
            raise ConfigError(f"{section}.{key}: Input should be a number, not {str(value).lower()}")
    try:
        return type(options).model_validate({**options.model_dump(), **settings})
    except ValidationError as error:
        raise ConfigError(f"{section}.{place_and_problem(error)}") from error
