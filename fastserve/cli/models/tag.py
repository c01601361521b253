"""`fastserve models tag`: words about a version that may change, which its manifest may not."""

from typing import Annotated

import typer

from fastserve.cli.common import AsJson, ConfigFile, Debug, Registry, print_json, settings
from fastserve.cli.models.naming import NameAtVersion, find_version
from fastserve.cli.models.opening import open_registry
from fastserve.errors import ConfigError

EPILOG = (
    "Example: [bold]fastserve models tag flights@4 stage=prod ticket=ML-17[/bold]"
    "\n\nTake one away: [bold]fastserve models tag flights@4 ticket=[/bold]"
    "\n\nWithout key=value the tags are listed."
)


def tag(
    name: NameAtVersion,
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key=value]...", show_default=False, help="`key=` removes a tag."),
    ] = None,
    registry: Registry = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """Put tags on a version, or take them away."""
    parsed = [_parse(change) for change in changes or ()]
    store = open_registry(settings(registry, config))
    model, version = find_version(store, name)
    for key, value in parsed:
        store.tag(model, version, key, value)
    tags = dict(store.state(model).tags.get(version, {}))
    if as_json:
        print_json(tags)
    elif not tags:
        typer.echo(f"{model} version {version} has no tags", err=True)
    else:
        from fastserve.cli.tables import show, table

        show(table(["TAG", "VALUE"], [[key, tags[key]] for key in sorted(tags)]))


def _parse(change: str) -> tuple[str, str | None]:
    key, equals, value = change.partition("=")
    if not key or not equals:
        raise ConfigError(f"'{change}': write key=value, or key= to remove a tag")
    from fastserve.registry.state import check_tag

    check_tag(key, value or None)  # all of them before the first is put on
    return key, value or None
