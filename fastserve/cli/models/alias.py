"""`fastserve models alias`: which version a name such as `champion` means."""

from typing import Annotated

import typer

from fastserve.cli.common import AsJson, ConfigFile, Debug, Registry, print_json, say, settings
from fastserve.cli.models.naming import Name, find_model, version_of
from fastserve.cli.models.opening import open_registry
from fastserve.errors import ConfigError

EPILOG = (
    "Example: [bold]fastserve models alias flights champion 4[/bold]"
    "\n\nSwap: [bold]fastserve models alias flights champion challenger[/bold] "
    "(VERSION may be another alias)"
    "\n\nThe champion answers requests that name no version; every other alias is asked for in the URL, as "
    "/v2/models/flights/versions/challenger/infer. Without ALIAS the aliases are listed."
)


def alias(
    name: Name,
    alias: Annotated[
        str | None,
        typer.Argument(metavar="[ALIAS]", show_default=False, help="Such as champion or challenger."),
    ] = None,
    version: Annotated[
        str | None,
        typer.Argument(metavar="[VERSION]", show_default=False, help="A version's number, or another alias."),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the alias away.")] = False,
    registry: Registry = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """Point an alias to a version; running servers follow within a second, and no request fails."""
    if remove and (alias is None or version is not None):
        raise ConfigError("--remove takes a model and an alias: fastserve models alias NAME ALIAS --remove")
    if alias is not None and version is None and not remove:
        raise ConfigError(f"say which version '{alias}' is to mean, or --remove")
    store = open_registry(settings(registry, config))
    find_model(store, name)
    before = dict(store.state(name).aliases)
    if alias is None:
        _list(name, before, as_json)
        return
    now = None
    if version is None:
        store.remove_alias(name, alias)
    else:
        now = version_of(store, name, version)
        store.set_alias(name, alias, now)
    if as_json:
        print_json({"model": name, "alias": alias, "before": before.get(alias), "version": now})
    else:
        say(moved(name, alias, before.get(alias), now))


def moved(model: str, alias: str, before: int | None, now: int | None) -> str:
    """Say what became of an alias: `flights: champion 3 → 4`."""
    if now is None:
        return f"{model}: {alias} removed; it was {before}"
    return f"{model}: {alias} {'' if before is None else f'{before} '}→ {now}"


def _list(model: str, aliases: dict[str, int], as_json: bool) -> None:
    if as_json:
        print_json(aliases)
    elif not aliases:
        typer.echo(
            f"{model} has no alias; set one: fastserve models alias {model} champion VERSION", err=True
        )
    else:
        from fastserve.cli.tables import show, table

        show(table(["ALIAS", "VERSION"], [[key, str(aliases[key])] for key in sorted(aliases)]))
