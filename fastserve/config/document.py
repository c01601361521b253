"""Reads one YAML document into plain values, remembering the line of every key so that errors can name it."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fastserve.errors import ConfigError

MAX_BYTES = 1 << 20

_OF_CONSTRUCTORS = (ValueError, OverflowError, LookupError, AttributeError, TypeError)
"""What PyYAML's safe constructors raise on scalars such as 2013-13-45, as if a date, and `!!int ""`."""

KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """The mapping a file holds, and the line on which each of its keys stands."""

    values: dict[str, Any]
    lines: dict[KeyPath, int]


class _Loader(yaml.SafeLoader):
    """SafeLoader without aliases: a few bytes of them expand into gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]  # in PyYAML's stubs
            raise yaml.MarkedYAMLError(None, None, "aliases (*name) are not allowed", mark)
        return super().compose_node(parent, index)


def read(path: Path) -> Document:
    """Read the file at `path`; ConfigError says what is wrong with it and where."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than the limit of {MAX_BYTES} bytes for a configuration")
    try:
        return parse(data.decode(), str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})") from error


def parse(text: str, name: str) -> Document:
    """Parse YAML text; `name` is how errors call it. Text without a document is an empty mapping.

    Raises
    ------
    ConfigError
        It is not valid YAML, or no mapping; says the line.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None or node.tag == "tag:yaml.org,2002:null":
            return Document({}, {})
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{name} must hold a mapping (key: value) at its top, not {_kind(node)}")
        lines = dict(_keys(node, (), name))
        return Document(loader.construct_document(node), lines)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{name}{_at(error.problem_mark)}: {error.problem}") from error
    except (yaml.YAMLError, *_OF_CONSTRUCTORS) as error:
        raise ConfigError(f"{name} is not valid YAML: {' '.join(str(error).split())[:200]}") from error
    except RecursionError as error:
        raise ConfigError(f"{name} is nested too deeply") from error


def flow(text: str) -> Any:
    """Read a list or a mapping that is written in one line; text that is none stays what it is."""
    try:
        return _Loader(text).get_single_data()
    except (yaml.YAMLError, *_OF_CONSTRUCTORS, RecursionError):
        return text


def _keys(node: yaml.Node, path: KeyPath, name: str) -> Iterator[tuple[KeyPath, int]]:
    """Walk the mappings under `node`; YAML itself would let the second of two equal keys win in silence."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _keys(item, (*path, str(index)), name)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[Hashable] = set()
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
            shown = key.value if isinstance(key, yaml.ScalarNode) else _kind(key)
            raise ConfigError(
                f"{name} line {line}: the key {str(shown)[:64]!r} is not text; put it in quotes"
            )
        here = (*path, key.value)
        if key.value in seen:
            raise ConfigError(f"{name} line {line}: '{'.'.join(here)}' is given twice")
        seen.add(key.value)
        yield here, line
        yield from _keys(value, here, name)


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return "a mapping" if isinstance(node, yaml.MappingNode) else "a single value"


def _at(mark: yaml.Mark | None) -> str:
    return "" if mark is None else f" line {mark.line + 1}"
