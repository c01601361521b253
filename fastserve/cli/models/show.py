"""`fastserve models show`: everything about one version."""

import hashlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastserve.cli.common import AsJson, ConfigFile, Debug, Registry, print_json, settings
from fastserve.cli.models.naming import find_model, split, version_of
from fastserve.cli.models.opening import inspector, open_registry
from fastserve.errors import FastserveError

if TYPE_CHECKING:
    from fastserve.config import Config
    from fastserve.registry import Registry as RegistryStore
    from fastserve.registry import VersionRecord

EPILOG = (
    "Example: [bold]fastserve models show flights@champion --registry ./registry[/bold]"
    "\n\nEvery file is compared with its checksum; a version that does not match is an error."
)


def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME[@VERSION]",
            help="A model, and a version of it (number or alias) unless the newest is meant.",
        ),
    ],
    registry: Registry = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """Show one version: what it takes and gives, its files and checksums, where it came from."""
    chosen = settings(registry, config)
    store = open_registry(chosen, checks=True)
    model, wanted = split(name)
    versions = store.versions(find_model(store, model))
    if not versions:
        raise FastserveError(f"model '{model}' has no version that can be served")
    version = versions[-1] if wanted is None else version_of(store, model, wanted)
    facts = _facts(store, store.verify(model, version), chosen)
    if as_json:
        print_json(facts)
    else:
        from fastserve.cli.models.showing import fact_tables
        from fastserve.cli.tables import show as print_tables

        print_tables(*fact_tables(facts))


def _facts(store: "RegistryStore", record: "VersionRecord", chosen: "Config") -> dict[str, Any]:
    manifest, state, words = record.manifest, store.state(record.model), store.settings(record.model)
    if manifest is not None:
        signature = manifest.signature
        files = {name: file.model_dump() for name, file in manifest.files.items()}
    else:
        from fastserve.registry.files import hash_file

        signature = inspector(chosen)(record.path)
        hashed = {"sha256": hash_file(record.path), "bytes": record.path.stat().st_size}
        files = {record.path.name: hashed}
    return {
        "model": record.model,
        "version": record.version,
        "path": str(record.path.parent),
        "description": words.description,
        "owner": words.owner,
        "created_at": manifest.created_at.isoformat(timespec="seconds") if manifest else None,
        "aliases": sorted(alias for alias, at in state.aliases.items() if at == record.version),
        "archived": record.version in state.archived,
        "tags": dict(state.tags.get(record.version, {})),
        "loaded": state.loaded,
        "signed": is_signed(record),
        "profile": _profile(store, record),
        "signature": signature.described(),
        "files": files,
        "provenance": manifest.provenance if manifest else None,
    }


def is_signed(record: "VersionRecord") -> bool:
    """Tell whether somebody signed the manifest; by whom, only a public key can tell."""
    from fastserve.registry import SIGNATURE_FILE

    return (record.path.parent / SIGNATURE_FILE).is_file()


def _profile(store: "RegistryStore", record: "VersionRecord") -> dict[str, Any] | None:
    content = store.profile(record.model, record.version)
    if content is None:
        return None
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
