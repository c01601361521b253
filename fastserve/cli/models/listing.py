"""`fastserve models list`: every version there is, the broken ones with what is wrong with them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from fastserve.cli.common import AsJson, ConfigFile, Debug, Registry, print_json, settings
from fastserve.cli.models.naming import AnyName, find_model
from fastserve.cli.models.opening import open_registry
from fastserve.errors import FastserveError

if TYPE_CHECKING:
    from fastserve.registry import ModelState
    from fastserve.registry import Registry as RegistryStore

EPILOG = (
    "Example: [bold]fastserve models list flights --registry ./registry[/bold]"
    "\n\nFiles are not compared with their checksums here: that is `fastserve models verify`."
)


def list_models(
    name: AnyName = None,
    registry: Registry = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """List every version of every model, the newest of each first."""
    store = open_registry(settings(registry, config))
    models = store.models() if name is None else [find_model(store, name)]
    rows = [row for model in models for row in _rows(store, model)]
    if as_json:
        print_json(rows)
    elif not rows:
        what = f"no models in {store.path}" if name is None else f"model '{name}' has no version"
        typer.echo(f"{what}; publish one: fastserve models publish {name or 'NAME'} FILE", err=True)
    else:
        from fastserve.cli.models.showing import model_table
        from fastserve.cli.tables import show

        show(model_table(rows))


def _rows(store: "RegistryStore", model: str) -> Iterator[dict[str, Any]]:
    problem, state = None, None
    try:
        state = store.state(model)
    except FastserveError as error:
        problem = str(error)
    try:
        versions = store.versions(model)
    except FastserveError as error:
        yield {**_blank(model, None, None), "problem": str(error)}
        return
    for version in reversed(versions):
        row = _row(store, model, version, state)
        yield {**row, "problem": row["problem"] or problem}


def _row(store: "RegistryStore", model: str, version: int, state: "ModelState | None") -> dict[str, Any]:
    """One line of the list; a version that cannot be described says why instead of hiding the others."""
    row = _blank(model, version, state)
    try:
        record = store.describe(model, version)
    except FastserveError as error:
        return {**row, "problem": str(error)}
    manifest = record.manifest
    if manifest is None:
        return {**row, "bytes": record.path.stat().st_size}
    return {
        **row,
        "created_at": manifest.created_at.isoformat(timespec="seconds"),
        "bytes": sum(file.bytes for file in manifest.files.values()),
        "inputs": [tensor.name for tensor in manifest.signature.inputs],
        "outputs": [tensor.name for tensor in manifest.signature.outputs],
    }


def _blank(model: str, version: int | None, state: "ModelState | None") -> dict[str, Any]:
    """A line with nothing but what the registry says beside a version; None: its versions cannot be read."""
    return {
        "model": model,
        "version": version,
        "aliases": sorted(alias for alias, at in state.aliases.items() if at == version) if state else [],
        "archived": state is not None and version in state.archived,
        "tags": dict(state.tags.get(version, {})) if state and version else {},
        "loaded": state is None or state.loaded,
        "created_at": None,
        "bytes": None,
        "inputs": None,
        "outputs": None,
        "problem": None,
    }
