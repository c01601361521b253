"""The registry that a verb works on, with the rules that the configuration sets for it."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastserve.config import Config
    from fastserve.registry import Registry
    from fastserve.types import Signature


def open_registry(chosen: "Config", *, keys: Sequence[Path] = (), checks: bool = False) -> "Registry":
    """Open the registry that the configuration names.

    With `checks` its versions are verified as a server would, by `keys` or else by the configured ones.

    Raises
    ------
    ConfigError
        No registry is named.
    RegistryError
        A key cannot be read.
    """
    path, options = chosen.registry_dir(), chosen.lifecycle
    from fastserve.registry import Registry, TrustedKeys

    trusted = list(keys or options.require_signature) if checks else []
    return Registry(path, rules=options.file_rules(), trusted=TrustedKeys.load(trusted) if trusted else None)


def inspector(chosen: "Config") -> "Callable[[Path], Signature]":
    """Give the look into a model file that takes no more time and memory than the configuration allows."""
    from fastserve.lifecycle.probe import inspect_apart

    return partial(inspect_apart, options=chosen.lifecycle)
