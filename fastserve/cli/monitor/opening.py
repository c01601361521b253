"""What `--model` names: a registry's version, or a model file that is yet to be published."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fastserve.errors import ConfigError, FastserveError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastserve.config import Config
    from fastserve.registry import Registry, VersionRecord
    from fastserve.runtime import Runtime, RuntimeOptions
    from fastserve.types import Signature

SUFFIX = ".onnx"


class Opened(NamedTuple):
    """A model whose rows are to be described."""

    label: str
    signature: "Signature"
    runtime: "Runtime | None"
    """None where the model is not to be run."""


def is_file(model: str) -> bool:
    """Tell whether a model file is named; a registry's model of such a name is written with its version."""
    return model.endswith(SUFFIX)


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

    options = chosen.lifecycle
    check_model_file(path, options.file_rules(), str(path))
    signature = inspect_apart(path, options)
    runtime = _load(path, chosen.runtime) if run else None
    try:
        yield Opened(path.name, signature, runtime)
    finally:
        if runtime is not None:
            runtime.close()


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
        signature = None if record.manifest is None else record.manifest.signature
        runtime = _load(record.path, options) if run or signature is None else None
        try:
            yield Opened(name, _signature(record, runtime, signature), runtime if run else None)
        finally:
            if runtime is not None:
                runtime.close()


def _signature(
    record: "VersionRecord", runtime: "Runtime | None", signature: "Signature | None"
) -> "Signature":
    if runtime is None:
        assert signature is not None
        return signature
    record.check_signature(runtime.signature)
    return runtime.signature


def _load(path: Path, options: "RuntimeOptions") -> "Runtime":
    from fastserve.runtime import OnnxRuntime, available_cores

    return OnnxRuntime(path, options, available_cores())
