"""`fastserve models archive`: put a version away without deleting it."""

from typing import Annotated

import typer

from fastserve.cli.common import ConfigFile, Debug, Registry, say, settings
from fastserve.cli.models.naming import NameAtVersion, find_version
from fastserve.cli.models.opening import open_registry

EPILOG = (
    "Example: [bold]fastserve models archive flights@2[/bold]"
    "\n\nAn archived version is not served and takes no alias; gc removes it like any other old version. "
    "One that an alias points to cannot be archived."
)


def archive(
    name: NameAtVersion,
    undo: Annotated[bool, typer.Option("--undo", help="Bring the version back.")] = False,
    registry: Registry = None,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """Stop serving a version, but keep it on disk."""
    store = open_registry(settings(registry, config))
    model, version = find_version(store, name)
    store.archive(model, version, not undo)
    say(f"{model} version {version} is {'not ' * undo}archived")
