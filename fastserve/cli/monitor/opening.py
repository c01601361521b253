"""What `--model` names: a registry's version, or a model file that is yet to be published."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fastserve.cli.models.naming import find_model, having, split, version_of
from fastserve.errors import ConfigError, FastserveError

if TYPE_CHECKING:
    from fastserve.config import Config
    from fastserve.registry import Registry
    from fastserve.runtime import Runtime, RuntimeOptions
    from fastserve.types import Signature


class Opened(NamedTuple):
    """A model whose rows are to be described."""

    label: str
    signature: "Signature"
    runtime: "Runtime | None"
    """None where its signature was known, and only that was wanted."""


def is_file(model: str) -> bool:
    """Tell whether a model file is named; a registry's model of such a name is written with its version."""
    return model.endswith(".onnx")


def check_file_use(model: str, *, out: bool, replace: bool, registry: bool) -> None:
    """Raise ConfigError where options make no sense with a model file, or one is missing."""
    if not out:
        raise ConfigError(
            f"--model {model} is a file, which keeps no profile: write it with --out profile.json, then "
            f"publish both with `fastserve models publish NAME {model} --profile profile.json`"
        )
    for given, option in ((replace, "--replace"), (registry, "--registry")):
        if given:
            raise ConfigError(
                f"{option} is about a version in a registry, and --model {model} is a file: leave one out"
            )


def find_served(store: "Registry", name: str) -> tuple[str, int]:
    """Find MODEL@VERSION; without a version the champion, without one the newest that is not archived.

    Raises
    ------
    ConfigError, FastserveError, RegistryError
        There is no such model, version or alias; says which there are.
    """
    model, wanted = split(name)
    find_model(store, model)
    if wanted is not None:
        return model, version_of(store, model, wanted)
    state = store.state(model)
    versions = [version for version in store.versions(model) if version not in state.archived]
    if state.aliases.get("champion") in versions:
        return model, state.aliases["champion"]
    if not versions:
        raise FastserveError(f"model '{model}' has no version to describe; {having(store, model)}")
    return model, versions[-1]


@contextmanager
def open_file(model: str, chosen: "Config", *, run: bool) -> "Iterator[Opened]":
    """Open a model file as publishing and serving would.

    Parameters
    ----------
    run
        The model is wanted itself, not only what it takes and gives.

    Raises
    ------
    FastserveError
        There is no such file.
    ModelRejected
        It could not be published.
    """
    path = Path(model)
    if not path.is_file():
        raise FastserveError(
            f"there is no file '{model}'; a registry's model of that name needs its version: {model}@1"
        )
    from fastserve.lifecycle.probe import inspect_apart
    from fastserve.registry.rules import check_model_file

    check_model_file(path, chosen.lifecycle.file_rules(), str(path))
    signature = inspect_apart(path, chosen.lifecycle)
    if not run:
        yield Opened(path.name, signature, None)
        return
    with closing(_load(path, chosen.runtime)) as runtime:
        yield Opened(path.name, signature, runtime)


@contextmanager
def open_version(
    store: "Registry", name: str, version: int, options: "RuntimeOptions", *, run: bool
) -> "Iterator[Opened]":
    """Open a registry's version, which is held and verified.

    Raises
    ------
    RegistryError, ModelRejected
    """
    with store.hold(name, version):
        record = store.verify(name, version)
        if record.manifest is not None and not run:
            yield Opened(name, record.manifest.signature, None)
            return
        with closing(_load(record.path, options)) as runtime:
            record.check_signature(runtime.signature)
            yield Opened(name, runtime.signature, runtime)


def _load(path: Path, options: "RuntimeOptions") -> "Runtime":
    from fastserve.runtime import OnnxRuntime, available_cores

    return OnnxRuntime(path, options, available_cores())
