"""What a person wishes for a model, as three small files say it and as the audit log's events change it.

The files are read strictly and within bounds: what they say decides which version answers.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastserve.errors import RegistryError
from fastserve.registry import files
from fastserve.registry.names import check_alias, is_version, parse_version

ALIASES_FILE = "aliases.json"
DESIRED_FILE = "desired.json"
TAGS_FILE = "tags.json"

MAX_STATE_BYTES = 4 * 1024 * 1024
MAX_TAG_VALUE = 1024
MAX_TAGS = 64
"""Of one version."""


@dataclass(frozen=True, slots=True)
class ModelState:
    """Everything about a model that may change; its versions may not."""

    aliases: Mapping[str, int] = field(default_factory=dict)
    archived: frozenset[int] = frozenset()
    tags: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    loaded: bool = True
    """Whether the model is to be served at all."""


def after(state: ModelState, event: str, details: Mapping[str, Any]) -> ModelState:
    """Give the state that an event makes; one that changes nothing, or makes no sense, leaves it alone."""
    try:
        return _AFTER[event](state, details) if event in _AFTER else state
    except (KeyError, TypeError, ValueError):
        return state  # a line that some other hand wrote


def changes_state(event: str) -> bool:
    """Tell whether an event changes what a model's state is."""
    return event in _AFTER


def read_state(directory: Path) -> ModelState:
    """Read the three files; a missing one says nothing, RegistryError names what is wrong in one."""
    loaded, archived = _desired(directory / DESIRED_FILE)
    return ModelState(_aliases(directory / ALIASES_FILE), archived, _tags(directory / TAGS_FILE), loaded)


def contents(state: ModelState) -> dict[str, bytes]:
    """Give the three files' contents; RegistryError when one would become too large to be read again."""
    tags = {str(version): dict(sorted(pairs.items())) for version, pairs in sorted(state.tags.items())}
    return {
        ALIASES_FILE: _written(ALIASES_FILE, dict(sorted(state.aliases.items()))),
        DESIRED_FILE: _written(DESIRED_FILE, {"loaded": state.loaded, "archived": sorted(state.archived)}),
        TAGS_FILE: _written(TAGS_FILE, tags),
    }


def check_tag(key: str, value: str | None) -> None:
    """Raise RegistryError with the rule unless a version may have this tag."""
    check_alias(key, "a tag's key")
    if value is not None and (len(value) > MAX_TAG_VALUE or not value.isprintable()):
        raise RegistryError(
            f"the tag '{key}' takes a value of at most {MAX_TAG_VALUE} printable characters on one line"
        )


def _aliased(state: ModelState, details: Mapping[str, Any]) -> ModelState:
    return replace(state, aliases={**state.aliases, details["alias"]: _number(details["version"])})


def _unaliased(state: ModelState, details: Mapping[str, Any]) -> ModelState:
    return replace(state, aliases={k: v for k, v in state.aliases.items() if k != details["alias"]})


def _tagged(state: ModelState, details: Mapping[str, Any]) -> ModelState:
    version, key, value = _number(details["version"]), details["key"], details["value"]
    pairs = {k: v for k, v in state.tags.get(version, {}).items() if k != key}
    if value is not None:
        pairs[key] = value
    tags = {v: kept for v, kept in state.tags.items() if v != version}
    return replace(state, tags={**tags, version: pairs} if pairs else tags)


def _archive(state: ModelState, details: Mapping[str, Any]) -> ModelState:
    return replace(state, archived=state.archived | {_number(details["version"])})


def _unarchive(state: ModelState, details: Mapping[str, Any]) -> ModelState:
    return replace(state, archived=state.archived - {_number(details["version"])})


def _forgot_archived(state: ModelState, details: Mapping[str, Any]) -> ModelState:
    return replace(state, archived=state.archived - set(details["versions"]))


def _forgot_tags(state: ModelState, details: Mapping[str, Any]) -> ModelState:
    gone = set(details["versions"])
    return replace(state, tags={v: pairs for v, pairs in state.tags.items() if v not in gone})


_AFTER: dict[str, Callable[[ModelState, Mapping[str, Any]], ModelState]] = {
    "alias": _aliased,
    "rollback": _aliased,
    "unalias": _unaliased,
    "tag": _tagged,
    "archive": _archive,
    "unarchive": _unarchive,
    "forget-archived": _forgot_archived,
    "forget-tags": _forgot_tags,
    "load": lambda state, _: replace(state, loaded=True),
    "unload": lambda state, _: replace(state, loaded=False),
}
"""What every event that changes the state makes of it; each is one rename of one file."""


def _desired(path: Path) -> tuple[bool, frozenset[int]]:
    """Read whether the model is to be served, and which of its versions are put away."""
    content = _read(path)
    unknown = content.keys() - {"loaded", "archived"}
    if unknown:
        raise _wrong(path, f"unknown key {min(unknown)[:64]!r}")
    loaded, archived = content.get("loaded", True), content.get("archived", [])
    if not isinstance(loaded, bool):
        raise _wrong(path, "'loaded' must be true or false")
    if not isinstance(archived, list) or not all(map(is_version, archived)):
        raise _wrong(path, "'archived' must be a list of version numbers")
    return loaded, frozenset(archived)


def _aliases(path: Path) -> dict[str, int]:
    content = _read(path)
    for alias, version in content.items():
        try:
            check_alias(alias)
        except RegistryError as error:
            raise _wrong(path, str(error)) from error
        if not is_version(version):
            raise _wrong(path, f"'{alias}' must be the number of a version")
    return content


def _tags(path: Path) -> dict[int, dict[str, str]]:
    found: dict[int, dict[str, str]] = {}
    for name, pairs in _read(path).items():
        version = parse_version(name)
        if version is None or not isinstance(pairs, dict) or len(pairs) > MAX_TAGS:
            raise _wrong(path, f"{name[:64]!r} must be a version with at most {MAX_TAGS} tags")
        for key, value in pairs.items():
            if not isinstance(value, str):
                raise _wrong(path, f"{key[:64]!r} of version {name} must be a string")
            try:
                check_tag(key, value)
            except RegistryError as error:
                raise _wrong(path, str(error)) from error
        found[version] = pairs
    return found


def _read(path: Path) -> dict[str, Any]:
    """Read an object from a small JSON file; a link to one may not leave the registry."""
    try:
        if path.is_symlink() and not files.is_regular_inside(path, path.parent.parent.resolve()):
            raise _wrong(path, "it is a link that leaves the registry")
        with files.open_regular(path) as reader:
            data = reader.read(MAX_STATE_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise RegistryError(f"{path.parent.name}/{path.name} cannot be read: {error.strerror}") from error
    if len(data) > MAX_STATE_BYTES:
        raise _wrong(path, f"it is larger than {MAX_STATE_BYTES} bytes")
    try:
        content = json.loads(data, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        problem = f"it is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        raise _wrong(path, problem) from error
    except (ValueError, RecursionError) as error:
        raise _wrong(path, f"it is not JSON: {str(error)[:200]}") from error
    if not isinstance(content, dict):
        raise _wrong(path, "it must be a JSON object")
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key is there twice")
    return content


def _written(name: str, content: dict[str, Any]) -> bytes:
    data = json.dumps(content, indent=2).encode() + b"\n"
    if len(data) > MAX_STATE_BYTES:
        raise RegistryError(f"{name} would become larger than {MAX_STATE_BYTES} bytes")
    return data


def _number(value: object) -> int:
    if not is_version(value):
        raise ValueError("not a version")
    return value


def _wrong(path: Path, problem: str) -> RegistryError:
    return RegistryError(f"{path.parent.name}/{path.name}: {problem}")
