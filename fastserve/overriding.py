"""Settings of one model over those of the server."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fastserve.errors import ConfigError

Options = TypeVar("Options", bound=BaseModel)


def overridden(options: Options, settings: Mapping[str, Any], section: str) -> Options:
    """Give the options with known settings over them; ConfigError names the first value out of range."""
    try:
        return type(options).model_validate({**options.model_dump(), **settings})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{section}.{where}: {first['msg']}") from error
