"""Which names models, versions, their files and aliases may have: no path, no hidden file, no endpoint."""

import re
from typing import TypeGuard

from fastserve.errors import RegistryError

_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,128}", re.ASCII)
_RULE = "use 1 to 128 of the letters A-Z, a-z, digits, '.', '_' and '-', and do not begin with '.'"
_VERSION = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_FILE_NAME = re.compile(r"(?!\.)[^/\\\x00-\x1f\x7f]{1,255}")
_ROUTES = frozenset({"stats"})
"""Model names that `/v2/models/<name>` cannot tell from an endpoint."""


def is_model(name: str) -> bool:
    """Tell whether a model may have this name."""
    return _NAME.fullmatch(name) is not None and name not in _ROUTES


def why_no_model(name: str) -> str | None:
    """The rule that keeps a model from having this name, if one does."""
    if name in _ROUTES:
        return f"a model cannot be called '{name}': /v2/models/{name} is an endpoint"
    return None if is_model(name) else f"{name[:64]!r} is not a model name: {_RULE}"


def check_model(name: str) -> None:
    """Raise RegistryError with the rule unless a model may have this name."""
    if (rule := why_no_model(name)) is not None:
        raise RegistryError(rule)


def check_alias(name: str, kind: str = "an alias") -> None:
    """Raise RegistryError with the rule unless an alias, or another `kind` of word, may have this name."""
    if _NAME.fullmatch(name) is None:
        raise RegistryError(f"{name[:64]!r} is not {kind}: {_RULE}")
    if name.isdigit():
        raise RegistryError(f"'{name}' is not {kind}: a number means a version")


def parse_version(text: str) -> int | None:
    """Read a version number, positive and without leading zeros; None for anything else."""
    return int(text) if _VERSION.fullmatch(text) else None


def is_version(value: object) -> TypeGuard[int]:
    """Tell whether a value, as JSON has it, is the number of a version."""
    return type(value) is int and parse_version(str(value)) is not None


def is_file_name(name: str) -> bool:
    """Tell whether a name stays in its directory: no separators, no leading dot, no control characters."""
    return _FILE_NAME.fullmatch(name) is not None
