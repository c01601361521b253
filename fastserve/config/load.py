"""Puts file, environment and flags together, the later over the earlier, and explains what is wrong."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fastserve.config import describe, document
from fastserve.config.document import KeyPath
from fastserve.config.schema import Config
from fastserve.errors import ConfigError
from fastserve.overriding import is_number

PREFIX = "FASTSERVE_"
REGISTRY_VARIABLE = "FASTSERVE_REGISTRY"
_SHOWN_CHARACTERS = 64
_TOLD = 20


class _Layers:
    """The merged values, and where each of them came from."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[KeyPath, str] = {}

    def put(self, path: KeyPath, value: Any, origin: str) -> None:
        """Set one value; whatever stood at that path before is replaced."""
        node = self.values
        for key in path[:-1]:
            child = node.get(key)
            if not isinstance(child, dict):
                child = node[key] = {}
            node = child
        node[path[-1]] = value
        self.origins[path] = origin

    def value(self, path: KeyPath) -> Any:
        """What stands at a path; None for nothing."""
        node: Any = self.values
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        return node

    def origin(self, path: KeyPath) -> str:
        """Where the value at `path`, the nearest section around it, or something in it, was written."""
        around = [path[:length] for length in range(len(path), 0, -1)]
        inside = [key for key in self.origins if key[: len(path)] == path]
        return next((f"{self.origins[key]}: " for key in (*around, *inside) if key in self.origins), "")


def load(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, tuple[KeyPath, Any]] | None = None,
) -> Config:
    """Make the configuration from the file at `path`, the `environ` and the `flags`.

    `flags` maps a flag to the setting it stands for and its value; a value of None was not given.

    Raises ConfigError with a line for every wrong setting: where it was written, what was got, what it takes.
    """
    layers, alone = _Layers(), []
    if path is not None:
        read = document.read(path)
        # A section whose every line is commented out reads as null and means its defaults.
        layers.values = {key: value for key, value in read.values.items() if value is not None}
        layers.origins = {key: f"{path} line {line}" for key, line in read.lines.items()}
        alone = _wrong_alone(layers)
    for name, value in sorted((environ or {}).items()):
        if (key := _environment_key(name)) and (value or name != REGISTRY_VARIABLE):
            layers.put(key, _environment_value(key, value), name)
    for flag, (key, value) in (flags or {}).items():
        if value is not None:
            layers.put(key, value, flag)
    config, wrong = _validate(layers)
    wrong += [sentence for sentence in alone if sentence not in wrong]
    if config is None or wrong:
        raise ConfigError("\n".join(wrong))
    return config


def _validate(layers: _Layers) -> tuple[Config | None, list[str]]:
    try:
        return Config.model_validate(layers.values), []
    except ValidationError as error:
        return None, _sentences(error.errors(include_url=False), layers)


def _wrong_alone(file: _Layers) -> list[str]:
    """What is wrong in the file by itself, whatever is put over it: values, not how several fit together."""
    wrong: list[ErrorDetails] = []
    try:
        Config.model_validate(file.values)
    except ValidationError as error:
        # A rule of our own may be about several settings, of which the environment may give some.
        wrong = [one for one in error.errors(include_url=False) if one["type"] != "value_error"]
    numbers = [path for path, field in describe.settings() if is_number(field)]
    for path in numbers:  # pydantic takes true for 1, since the environment has nothing but text
        if isinstance(value := file.value(path), bool):
            wrong.append({"type": "number_type", "loc": path, "msg": "", "input": value})
    return _sentences(wrong, file)


def _environment_key(name: str) -> KeyPath | None:
    """`FASTSERVE_SERVER__PORT` is server.port.

    Without the double underscore only FASTSERVE_REGISTRY is ours: an orchestrator puts FASTSERVE_SERVICE_HOST
    and the like into the environment of everything beside a service that is called fastserve.
    """
    if name == REGISTRY_VARIABLE:
        return ("registry",)
    if not name.startswith(PREFIX) or "__" not in name:
        return None
    return tuple(name.removeprefix(PREFIX).lower().split("__"))


def _environment_value(key: KeyPath, text: str) -> Any:
    """Lists and null are written as YAML; everything else is text that pydantic converts."""
    if text == "null":
        return None
    field = dict(describe.settings()).get(key)
    is_text = field is not None and describe.is_text(field)  # such as a token, of any characters
    return document.flow(text) if text.startswith("[") and not is_text else text


def _sentences(errors: list[ErrorDetails], layers: _Layers) -> list[str]:
    """Tell what is wrong; nobody reads more than 20 lines, and what follows is often their consequence."""
    more = len(errors) - _TOLD
    rest = [f"and {more:,} settings more are wrong"] if more > 0 else []
    return [_sentence(one, layers) for one in errors[:_TOLD]] + rest


def _sentence(error: ErrorDetails, layers: _Layers) -> str:
    path = tuple(str(part) for part in error["loc"])
    name = ".".join(path)
    origin = layers.origin(path)
    if error["type"] == "extra_forbidden":
        hint = nearest(path)
        return f"{origin}'{name}' is not a setting" + (f"; did you mean '{hint}'?" if hint else "")
    if error["type"] == "value_error":
        reason = str(error.get("ctx", {}).get("error", error["msg"]))
        return f"{origin}{name}: {reason}"
    if describe.is_secret(path):
        return f"{origin}{name} is something else (not shown), but it takes {describe.allowed(path)}"
    got = repr(error["input"])
    got = got if len(got) <= _SHOWN_CHARACTERS else got[:_SHOWN_CHARACTERS] + "…"
    return f"{origin}{name} is {got}, but it takes {describe.allowed(path)}"


def nearest(path: KeyPath) -> str | None:
    """The setting that was most likely meant by the unknown `path`, as a dotted name."""
    known = [key for key, _ in describe.settings()]
    siblings = {key[-1]: key for key in known if key[:-1] == path[:-1]}
    anywhere = {key[-1]: key for key in reversed(known)}
    for names, cutoff in ((siblings, 0.6), (anywhere, 0.75)):
        if close := difflib.get_close_matches(path[-1], names, n=1, cutoff=cutoff):
            return ".".join(names[close[0]])
    return None
