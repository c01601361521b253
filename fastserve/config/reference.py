"""Writes the reference file: every setting with its meaning, what it takes and its default.

`python -m fastserve.config.reference` prints it; configs/server.yaml is that output, and a test keeps it so.
"""

import json
import sys
import textwrap
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fastserve.config.describe import allowed, section_of
from fastserve.config.document import KeyPath
from fastserve.config.schema import Config

_WIDTH = 100
_HEADER = """\
Every setting of fastserve with its default. Generated from the options: `make configs` writes this file.

Each can also come from the environment, which wins over this file: FASTSERVE_SERVER__PORT=9000 sets
server.port. Flags such as --port win over both.
"""
_NOT_TEXT = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
_EXAMPLES: dict[KeyPath, Any] = {("registry",): "./registry"}


def render() -> str:
    """The text of configs/server.yaml."""
    lines = [*_comment(_HEADER.strip(), ""), ""]
    lines += _section(Config, (), "")
    return "\n".join(lines).rstrip() + "\n"


def _section(model: type[BaseModel], path: KeyPath, indent: str) -> list[str]:
    lines: list[str] = []
    for name, field in model.model_fields.items():
        here = (*path, name)
        if section := section_of(field):
            lines += ["", *_comment(section.__doc__ or "", indent), f"{indent}{name}:"]
            lines += _section(section, here, indent + "  ")
        else:
            lines += _setting(here, field, indent)
    return lines


def _setting(path: KeyPath, field: FieldInfo, indent: str) -> list[str]:
    default = field.get_default(call_default_factory=True)
    value = _EXAMPLES.get(path, default)
    words = f"{field.description} Takes {allowed(path)}."
    if value != default:
        words += f" Default: {_yaml(default)}."
    return [*_comment(words, indent), f"{indent}{path[-1]}: {_yaml(value)}"]


def _comment(text: str, indent: str) -> list[str]:
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        if lines:
            lines.append(f"{indent}#")
        words = " ".join(paragraph.split())
        lines += [f"{indent}# {line}" for line in textwrap.wrap(words, _WIDTH - len(indent) - 2)]
    return lines


def _yaml(value: Any) -> str:
    """One value as YAML; a JSON text is one, and plain words need no quotes."""
    if isinstance(value, str) and value and value.replace("_", "").replace("-", "").isalpha():
        return json.dumps(value) if value.lower() in _NOT_TEXT else value
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    sys.stdout.write(render())
