"""The registry that a verb works on, with the rules that the configuration sets for it."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastserve.cli.common import settings

if TYPE_CHECKING:
    from fastserve.registry import Registry
    from fastserve.types import Signature


def open_registry(
    registry: Path | None, config: Path | None, *, keys: Sequence[Path] = (), checks: bool = False
) -> "Registry":
    """Open the registry of the flag, the environment or the configuration.

    With `checks` its versions are verified as a server would, by `keys` or else by the configured ones.

    Raises
    ------
    ConfigError
        No registry is named, or the configuration is wrong.
    RegistryError
        A key cannot be read.
    """
    chosen = settings(registry, config)
    path, options = chosen.registry_dir(), chosen.lifecycle
    from fastserve.registry import Registry, TrustedKeys

    trusted = list(keys or options.require_signature) if checks else []
    return Registry(path, rules=options.file_rules(), trusted=TrustedKeys.load(trusted) if trusted else None)


def inspector(config: Path | None) -> "Callable[[Path], Signature]":
    """Give the look into a model file that takes no more time and memory than the configuration allows.

    Raises
    ------
    ConfigError
        The configuration is wrong.
    """
    options = settings(None, config).lifecycle
    from fastserve.lifecycle.probe import inspect_apart

    return partial(inspect_apart, options=options)
