"""`fastserve models rollback`: back to the champion before this one, by the audit log."""

from typing import Annotated

import typer

from fastserve.cli.common import AsJson, ConfigFile, Debug, Registry, print_json, say, settings
from fastserve.cli.models.alias import moved
from fastserve.cli.models.naming import Name, find_model
from fastserve.cli.models.opening import open_registry

EPILOG = (
    "Example: [bold]fastserve models rollback flights[/bold]"
    "\n\nOnce more goes one champion further back. Versions that are archived or gone are passed over. "
    "Where the audit log was damaged, only what was written after that counts."
)


def rollback(
    name: Name,
    alias: Annotated[str, typer.Option("--alias", metavar="ALIAS", help="Another alias.")] = "champion",
    registry: Registry = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """Point the champion to the version that was champion before; running servers follow within a second."""
    store = open_registry(settings(registry, config))
    before, now = store.rollback(find_model(store, name), alias)
    if as_json:
        print_json({"model": name, "alias": alias, "before": before, "version": now})
    else:
        say(moved(name, alias, before, now))
