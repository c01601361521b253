"""`fastserve models import`: models that other servers and tools keep become versions of this registry."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastserve.cli.common import AsJson, ConfigFile, Debug, Registry, print_json, settings
from fastserve.cli.models.opening import inspector, open_registry
from fastserve.errors import ConfigError, FastserveError

if TYPE_CHECKING:
    from fastserve.registry import Registry as RegistryStore
    from fastserve.registry.importing import Importable
    from fastserve.types import Signature

EPILOG = (
    "Example: [bold]fastserve models import /srv/triton/model_repository --dry-run[/bold]"
    "\n\nDIR is a Triton repository, a TF-Serving style tree (<model>/<version>/model.onnx), one model of "
    "either, or an MLflow model directory with an ONNX flavour. Each file is checked and published as with "
    "`publish`, under the next number; the number it had there is kept in its provenance."
)


def import_models(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="Where the models are.")
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="The model's name here, when DIR holds only one."),
    ] = None,
    alias: Annotated[
        str | None,
        typer.Option("--alias", metavar="ALIAS", help="Point this alias to the newest version of each."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be imported, and import nothing.")
    ] = False,
    registry: Registry = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """Import models from another server's repository; exit code 1 when nothing could be imported."""
    chosen = settings(registry, config)
    store = open_registry(chosen)
    from fastserve.registry import check_alias
    from fastserve.registry.importing import find_models

    if alias is not None:
        check_alias(alias)
    found = find_models(directory)
    if name is not None and len({one.name for one in found}) > 1:
        names = ", ".join(sorted({one.name for one in found}))
        raise ConfigError(f"--name: {directory} holds more than one model: {names}")
    root = store.path.resolve()
    if any(one.file.is_relative_to(root / (name or one.name)) for one in found):
        raise ConfigError(f"{directory} is in the registry '{store.path}': its models are there already")
    newest = {one.name: index for index, one in enumerate(found)}
    inspect = None if dry_run else inspector(chosen)
    rows = [
        _import(store, one, name or one.name, alias if newest[one.name] == index else None, inspect)
        for index, one in enumerate(found)
    ]
    if as_json:
        print_json(rows)
    elif rows:
        from fastserve.cli.models.showing import import_table
        from fastserve.cli.tables import show

        show(import_table(rows))
    if not any(row["problem"] is None for row in rows):
        raise FastserveError(f"nothing could be imported from {directory}")


def _import(
    store: "RegistryStore",
    one: "Importable",
    name: str,
    alias: str | None,
    inspect: "Callable[[Path], Signature] | None",
) -> dict[str, Any]:
    """Publish one model unless there is no `inspect`; the row that says what came out."""
    row: dict[str, Any] = {
        "from": str(one.file),
        "model": name,
        "version": None,
        "alias": alias,
        "problem": None,
    }
    from fastserve.lifecycle.probe import vouch
    from fastserve.registry import check_model

    try:
        if inspect is None:
            check_model(name)
            return row
        version = store.publish(name, one.file, inspect=inspect, provenance=one.provenance, alias=alias)
        vouch(store.describe(name, version), store.path)
    except FastserveError as error:
        return {**row, "alias": None, "problem": str(error)}
    return {**row, "version": version}
