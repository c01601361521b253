"""`fastserve models gc`: remove old versions that nothing needs, and what died publishers left behind."""

from typing import TYPE_CHECKING, Annotated

import typer

from fastserve.cli.common import AsJson, ConfigFile, Debug, Registry, note, print_json, say, settings
from fastserve.cli.models.naming import AnyName, find_model
from fastserve.cli.models.opening import open_registry
from fastserve.errors import FastserveError

if TYPE_CHECKING:
    from fastserve.registry import Removed

EPILOG = (
    "Example: [bold]fastserve models gc --keep 5 --dry-run[/bold]"
    "\n\nThe newest N versions of each model stay, the newest N that are not archived, and whatever an alias "
    "points to, a running server holds or a link in another version leads to."
)


def gc(
    name: AnyName = None,
    *,
    keep: Annotated[
        int, typer.Option("--keep", metavar="N", min=1, help="How many of the newest versions stay.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")
    ] = False,
    registry: Registry = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """Remove versions that are neither new nor in use, and leftovers."""
    store = open_registry(settings(registry, config))
    model = None if name is None else find_model(store, name)
    problems: list[FastserveError] = []
    removed = store.gc(keep, model, dry_run=dry_run, on_problem=problems.append)
    _print(removed, problems, dry_run=dry_run, as_json=as_json)
    if problems:
        raise typer.Exit(1)


def _print(removed: "list[Removed]", problems: list[FastserveError], *, dry_run: bool, as_json: bool) -> None:
    freed = sum(one.bytes for one in removed)
    rows = [{"model": one.model, "what": one.what, "bytes": one.bytes, "why": one.why} for one in removed]
    if as_json:
        told = list(map(str, problems))
        print_json({"dry_run": dry_run, "bytes": freed, "removed": rows, "problems": told})
        return
    from fastserve.cli.tables import show, size, table

    if rows:
        cells = [[one.model, one.what, size(one.bytes), one.why] for one in removed]
        show(table(["MODEL", "WOULD BE REMOVED" if dry_run else "REMOVED", "SIZE", "WHY"], cells, right={2}))
    say(f"{size(freed)} {'would be freed' if dry_run else 'freed'}")
    for problem in problems:
        note(str(problem))
