"""Settings of one model over those of the server, and what pydantic says of wrong values."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fastserve.errors import ConfigError

Options = TypeVar("Options", bound=BaseModel)


def first_problem(error: ValidationError) -> tuple[str, str]:
    """Give the place of the first wrong value, its keys with dots between, and what is the matter."""
    first = error.errors(include_url=False)[0]
    return ".".join(str(part) for part in first["loc"]), first["msg"]


def place_and_problem(error: ValidationError) -> str:
    """The same as words; only the problem where the whole is wrong."""
    return ": ".join(filter(None, first_problem(error)))


def overridden(options: Options, settings: Mapping[str, Any], section: str) -> Options:
    """Give the options with known settings over them; ConfigError names the first value out of range."""
    try:
        return type(options).model_validate({**options.model_dump(), **settings})
    except ValidationError as error:
        raise ConfigError(f"{section}.{place_and_problem(error)}") from error
