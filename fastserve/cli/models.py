"""`fastserve models`: put a model into the registry, and look at what is there."""

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from fastserve.cli.common import ConfigFile, Debug, Registry, registry_dir
from fastserve.errors import ConfigError, FastserveError, VersionNotFound

if TYPE_CHECKING:
    from fastserve.registry import Registry as RegistryStore
    from fastserve.registry import VersionRecord
    from fastserve.types import Signature

app = typer.Typer(
    no_args_is_help=True,
    help="Publish models to the registry and look at them.",
    epilog="Example: [bold]fastserve models publish flights model.onnx --registry ./registry[/bold]",
)

AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON for programs instead of a table for people.")
]

_MAX_PROVENANCE_BYTES = 1 << 20


@app.command(
    epilog="Example: [bold]fastserve models publish flights model.onnx --registry ./registry[/bold]"
    "\n\nA published version never changes: publishing again makes the next one."
)
def publish(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The model's name in the registry and in URLs.")
    ],
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="The ONNX file; external data files beside it are taken along.",
        ),
    ],
    registry: Registry = None,
    provenance: Annotated[
        Path | None,
        typer.Option(
            "--provenance",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="A JSON object kept with the version: data hash, code commit, parameters, metrics.",
        ),
    ] = None,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """Check an ONNX file and publish it as the next version, all at once or not at all."""
    store = _open(registry, config)
    facts = _read_provenance(provenance) if provenance else {}
    from fastserve.runtime import inspect

    version = store.publish(name, file, inspect=inspect, provenance=facts)
    typer.echo(f"{name} version {version} → {store.describe(name, version).path.parent}")


@app.command("list", epilog="Example: [bold]fastserve models list --registry ./registry[/bold]")
def list_models(
    registry: Registry = None, as_json: AsJson = False, config: ConfigFile = None, debug: Debug = False
) -> None:
    """List every version of every model, the newest of each first."""
    store = _open(registry, config)
    rows = [
        _row(store, model, version) for model in store.models() for version in reversed(store.versions(model))
    ]
    if as_json:
        _print_json(rows)
    elif not rows:
        typer.echo(f"no models in {store.path}; publish one: fastserve models publish NAME FILE", err=True)
    else:
        _print_rows(rows)


@app.command(
    epilog="Example: [bold]fastserve models show flights@1 --registry ./registry[/bold]"
    "\n\nEvery file is compared with its checksum; a version that does not match is an error."
)
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME[@VERSION]", help="A model, and a version of it unless the newest is meant."
        ),
    ],
    registry: Registry = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """Show one version: what it takes and gives, its files and checksums, where it came from."""
    from fastserve.registry import parse_version

    store = _open(registry, config)
    model, at, wanted = name.partition("@")
    versions = store.versions(model)
    if not versions:
        raise FastserveError(f"model '{model}' has no version that can be served")
    version = parse_version(wanted) if at else versions[-1]
    if version is None:
        raise VersionNotFound(model, wanted)
    facts = _facts(store.verify(model, version))
    if as_json:
        _print_json(facts)
    else:
        _print_facts(facts)


def _open(registry: Path | None, config: Path | None) -> "RegistryStore":
    path = registry_dir(registry, config)
    from fastserve.registry import Registry as RegistryStore

    return RegistryStore(path)


def _read_provenance(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        data = file.read(_MAX_PROVENANCE_BYTES + 1)
    if len(data) > _MAX_PROVENANCE_BYTES:
        raise ConfigError(f"--provenance: {path} is larger than the limit of {_MAX_PROVENANCE_BYTES} bytes")
    try:
        facts = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"--provenance: {path} is not JSON: {error}") from None
    if not isinstance(facts, dict):
        raise ConfigError(f"--provenance: {path} must hold a JSON object")
    return facts


def _row(store: "RegistryStore", model: str, version: int) -> dict[str, Any]:
    """One line of the list; a version that cannot be described says why instead of hiding the others."""
    row: dict[str, Any] = {"model": model, "version": version}
    try:
        record = store.describe(model, version)
    except FastserveError as error:
        return {
            **row,
            "created_at": None,
            "bytes": None,
            "inputs": None,
            "outputs": None,
            "problem": str(error),
        }
    manifest = record.manifest
    if manifest is None:
        size = record.path.stat().st_size
        return {**row, "created_at": None, "bytes": size, "inputs": None, "outputs": None, "problem": None}
    return {
        **row,
        "created_at": manifest.created_at.isoformat(timespec="seconds"),
        "bytes": sum(file.bytes for file in manifest.files.values()),
        "inputs": [tensor.name for tensor in manifest.signature.inputs],
        "outputs": [tensor.name for tensor in manifest.signature.outputs],
        "problem": None,
    }


def _facts(record: "VersionRecord") -> dict[str, Any]:
    manifest = record.manifest
    if manifest is not None:
        signature = manifest.signature
        files = {name: file.model_dump() for name, file in manifest.files.items()}
    else:
        from fastserve.runtime import inspect

        signature = inspect(record.path)
        files = {record.path.name: _hashed(record.path)}
    return {
        "model": record.model,
        "version": record.version,
        "path": str(record.path.parent),
        "created_at": manifest.created_at.isoformat(timespec="seconds") if manifest else None,
        "signature": _signature(signature),
        "files": files,
        "provenance": manifest.provenance if manifest else None,
    }


def _hashed(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


def _signature(signature: "Signature") -> dict[str, Any]:
    def described(tensors: Any) -> list[dict[str, Any]]:
        return [{"name": t.name, "datatype": t.datatype.value, "shape": list(t.shape)} for t in tensors]

    return {
        "inputs": described(signature.inputs),
        "outputs": described(signature.outputs),
        "batched": signature.batched,
    }


def _print_json(value: Any) -> None:
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def _print_rows(rows: list[dict[str, Any]]) -> None:
    from fastserve.cli.tables import model_table, show

    show(model_table(rows))


def _print_facts(facts: dict[str, Any]) -> None:
    from fastserve.cli.tables import fact_tables, show

    show(*fact_tables(facts))
