"""Says in words what a setting is and takes: for errors, --help and the reference file."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from fastserve.config.document import KeyPath
from fastserve.config.schema import Config

_schema = cache(Config.model_json_schema)
_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "object": "a mapping (key: value)",
}


def settings(model: type[BaseModel] = Config, path: KeyPath = ()) -> Iterator[tuple[KeyPath, FieldInfo]]:
    """Every setting in order, a section before its members."""
    for name, field in model.model_fields.items():
        yield (*path, name), field
        if section := section_of(field):
            yield from settings(section, (*path, name))


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The options that make up the section `field`; None when it is a single setting."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def is_text(field: FieldInfo) -> bool:
    """Whether a setting takes text as it is, whatever it looks like."""
    return not _kinds(field).isdisjoint({str, SecretStr, Path})


def is_secret(path: KeyPath) -> bool:
    """Whether what is given for a setting, or for a part of one, must not be shown."""
    around = [field for key, field in settings() if key == path[: len(key)]]
    return any(SecretStr in _kinds(field) or not field.repr for field in around)


def help_text(path: KeyPath) -> str:
    """What the setting at `path` means, and its default."""
    field = dict(settings())[path]
    default = field.get_default(call_default_factory=True)
    return f"{field.description} [default: {'none' if default in ((), None) else default}]"


def allowed(path: KeyPath) -> str:
    """What the setting at `path` takes, such as `a whole number from 0 to 65535`, by its JSON Schema."""
    node = _schema()
    for key in path:
        node = _resolve(node)
        node = node.get("properties", {}).get(key) or node.get("items", {})
    return _words(node)


def _kinds(field: FieldInfo) -> set[Any]:
    """The type of a setting, and those that its union is of."""
    kind: Any = field.annotation
    return {kind, *get_args(kind)} if isinstance(kind, UnionType) else {kind}


def _resolve(node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = _schema()["$defs"][node["$ref"].rpartition("/")[2]]
    return node


def _words(node: dict[str, Any]) -> str:
    node = _resolve(node)
    if "enum" in node:
        return _either([str(value) for value in node["enum"]])
    if "anyOf" in node:
        return _either([_words(option) for option in node["anyOf"]])
    kind = node.get("type", "")
    if kind == "array":
        return f"a list, each item {_words(node['items'])}"
    if node.get("format") == "path":
        return "a path"
    return _KINDS.get(kind, "another value") + _range(node)


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:.15g}"


def _range(node: dict[str, Any]) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    parts = []
    if low is not None and high is not None:
        parts.append(f"from {_plain(low)} to {_plain(high)}")
    elif low is not None:
        parts.append(f"from {_plain(low)} up")
    if above is not None:
        parts.append(f"above {_plain(above)}")
    if high is not None and low is None:
        parts.append(f"up to {_plain(high)}")
    if below is not None:
        parts.append(f"below {_plain(below)}")
    if node.get("minLength") == 1:
        parts.append("that is not empty")
    if "pattern" in node:
        parts.append(f"that matches {node['pattern']}")
    return " " + " and ".join(parts) if parts else ""


def _either(options: list[str]) -> str:
    return options[0] if len(options) == 1 else f"{', '.join(options[:-1])} or {options[-1]}"
