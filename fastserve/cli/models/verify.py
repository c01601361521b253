"""`fastserve models verify`: whether the registry holds what was published, and a server may load it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastserve.cli.common import AsJson, ConfigFile, Debug, Registry, note, print_json, settings
from fastserve.cli.models.naming import find_model, split, version_of
from fastserve.cli.models.opening import open_registry
from fastserve.cli.models.show import is_signed
from fastserve.cli.progress import progress
from fastserve.errors import ConfigError, FastserveError, VersionNotFound

if TYPE_CHECKING:
    from fastserve.config import Config
    from fastserve.registry import Registry as RegistryStore

EPILOG = (
    "Example: [bold]fastserve models verify flights --require-signature release.pub.pem[/bold]"
    "\n\nChecked are sizes and checksums, the signature, where external data lies, opsets and operators, as "
    "a server does before it loads; profiles put beside versions; model.yaml; the audit log's chain, and "
    "that versions have the manifest that it says they were published with. Archived versions are checked "
    "when --all is given, or one is named."
)


@dataclass(slots=True)
class _Check:
    """One version to look at, and what came out."""

    model: str
    version: int
    size_bytes: int = 0
    signed: bool = False
    problem: str | None = None
    gone: bool = False
    """It was collected before it was looked at."""


def verify(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME[@VERSION]]",
            show_default=False,
            help="One model or version; all of them without it.",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Archived versions too.")] = False,
    keys: Annotated[
        list[Path] | None,
        typer.Option(
            "--require-signature",
            metavar="PUB",
            exists=True,
            dir_okay=False,
            help="A public ed25519 key (PEM) that must have signed; may be given again for another one.",
        ),
    ] = None,
    registry: Registry = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """Check versions and audit logs; exit code 1 when anything is broken, with a line for each problem."""
    chosen = settings(registry, config)
    store = open_registry(chosen, keys=keys or (), checks=True)
    model, wanted = (None, None) if name is None else split(name)
    if everything and wanted is not None:
        raise ConfigError("--all is for a whole model or registry, not for one version")
    models = store.models() if model is None else [find_model(store, model)]
    problems = [problem for one in models for problem in _about_model(store, chosen, one)]
    problems += [f"{one}/{version}/{what}" for one, version, what in store.damaged(model)]
    if model is None:
        problems += [f"{place!r}: {what}" for place, what in store.passed_over()]
    if model is not None and wanted is not None:
        checks = [_Check(model, version_of(store, model, wanted))]
    else:
        checks = [check for one in models for check in _to_check(store, one, everything)]
    _look(store, checks, quiet=as_json)
    checks = [check for check in checks if wanted is not None or not check.gone]
    problems += [check.problem for check in checks if check.problem]
    _print(checks, problems, as_json)
    if not models:
        note(f"no models in {store.path}")
    if problems:
        raise typer.Exit(1)


def _to_check(store: "RegistryStore", model: str, everything: bool) -> Iterator[_Check]:
    try:
        archived = store.state(model).archived
    except FastserveError:  # told by _about_model
        archived = frozenset()
    try:
        versions = store.versions(model)
    except FastserveError:  # told by _about_model
        return
    for version in versions:
        if everything or version not in archived:
            yield _Check(model, version)


def _about_model(store: "RegistryStore", config: "Config", model: str) -> Iterator[str]:
    """What is wrong beside the versions: aliases, tags, settings, history."""
    try:
        state, versions = store.state(model), store.versions(model)
        for alias, version in sorted(state.aliases.items()):
            if version not in versions:
                yield f"{model}/aliases.json: {alias} is version {version}, which is not there"
    except FastserveError as error:
        yield str(error)
    yield from _about_settings(store, config, model)
    try:
        yield from store.check_audit(model)
    except FastserveError as error:
        yield str(error)


def _about_settings(store: "RegistryStore", config: "Config", model: str) -> Iterator[str]:
    """What is wrong in a model's model.yaml, in the words of the servers that refuse or warn."""
    try:
        words = store.settings(model)
    except FastserveError as error:
        yield str(error)
        return
    for overridden, own in (
        (config.batching.overridden, words.batching),
        (config.monitoring.overridden, words.monitoring),
    ):
        try:
            overridden(own)
        except ConfigError as error:
            yield f"model.yaml of model '{model}': {error}"


def _look(store: "RegistryStore", checks: list[_Check], *, quiet: bool) -> None:
    """Read every byte; the sizes first, so that the bar knows how far it is."""
    for check in checks:
        try:
            record = store.describe(check.model, check.version)
            check.signed = is_signed(record)
            sizes = record.manifest.files.values() if record.manifest else ()
            check.size_bytes = sum(file.bytes for file in sizes) or record.path.stat().st_size
        except (FastserveError, OSError):  # told below
            continue
    replaced = {model: _replaced(store, model) for model in {check.model for check in checks}}
    total = sum(check.size_bytes for check in checks)
    with progress("reading", total, "bytes", quiet=quiet) as advance:
        for check in checks:
            try:
                with store.hold(check.model, check.version):  # no collector takes it away meanwhile
                    store.verify(check.model, check.version)
                    store.profile(check.model, check.version)
                    check.problem = replaced[check.model].get(check.version)
            except FastserveError as error:
                check.problem, check.gone = str(error), isinstance(error, VersionNotFound)
            advance(check.size_bytes, f"{check.model}/{check.version}")


def _replaced(store: "RegistryStore", model: str) -> dict[int, str]:
    try:
        return store.replaced(model)
    except FastserveError:  # told by _about_model
        return {}


def _print(checks: list[_Check], problems: list[str], as_json: bool) -> None:
    rows = [
        {
            "model": check.model,
            "version": check.version,
            "bytes": check.size_bytes,
            "signed": check.signed,
            "problem": check.problem,
        }
        for check in checks
    ]
    if as_json:
        print_json({"sound": not problems, "versions": rows, "problems": problems})
        return
    from fastserve.cli.models.showing import check_table
    from fastserve.cli.tables import show

    if rows:
        show(check_table(rows))
    for problem in problems:
        note(problem)
