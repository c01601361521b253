"""The registry directory: list, describe and verify what is there, publish what is new.

A version becomes visible by one rename of a directory that is complete, hashed and synced, so there is no
moment at which half of it can be seen, whatever dies; and what has a name is never written to again.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve.errors import ModelNotFound, RegistryError, VersionNotFound
from fastserve.registry import files, publishing, verifying
from fastserve.registry.manifest import MANIFEST_FILE, MODEL_FILE, Manifest
from fastserve.registry.names import is_model, parse_version
from fastserve.registry.settings import SETTINGS_FILE, ModelSettings, load_settings
from fastserve.types import Signature


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One whole version on disk; `manifest` is None in a tree that something else wrote."""

    model: str
    version: int
    path: Path
    """The model.onnx."""
    manifest: Manifest | None

    def check_signature(self, signature: Signature) -> None:
        """Raise RegistryError when the loaded model is not what the manifest says."""
        if self.manifest is None or self.manifest.signature == signature:
            return
        said = {*self.manifest.signature.inputs, *self.manifest.signature.outputs}
        loaded = {*signature.inputs, *signature.outputs}
        differing = ", ".join(sorted({tensor.name for tensor in said ^ loaded}))
        raise RegistryError(
            f"{self.model}/{self.version}/{MANIFEST_FILE} has another signature than the model: "
            f"{differing or 'batch dimension or order of tensors'}"
        )


class Registry:
    """A registry directory; keeps nothing in memory. Safe from any number of threads and processes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def models(self) -> list[str]:
        """Names of the models that have a whole version, sorted; RegistryError without a registry."""
        root = self.path.resolve()
        try:
            with os.scandir(self.path) as entries:
                names = [entry.name for entry in entries if is_model(entry.name)]
        except OSError as error:
            raise RegistryError(f"registry '{self.path}' cannot be read: {error.strerror}") from error
        inside = (name for name in names if _is_directory_inside(self.path / name, root))
        return sorted(name for name in inside if any(True for _ in _scan(self.path / name, root)))

    def versions(self, model: str) -> list[int]:
        """Numbers of a model's whole versions, ascending; ModelNotFound when there is no such model."""
        directory, root = self._find(model)
        return sorted(_scan(directory, root))

    def describe(self, model: str, version: int) -> VersionRecord:
        """Find one version and read its manifest; RegistryError when that is broken."""
        directory, root = self._find_version(model, version)
        return VersionRecord(model, version, directory / MODEL_FILE, verifying.read_manifest(directory, root))

    def verify(self, model: str, version: int) -> VersionRecord:
        """Describe a version once its files match its manifest; RegistryError names what is wrong."""
        directory, root = self._find_version(model, version)
        record = self.describe(model, version)
        verifying.verify(directory, record.manifest, root)
        return record

    def settings(self, model: str) -> ModelSettings:
        """Read the model's `model.yaml`; defaults without one, RegistryError naming what is wrong in it."""
        directory, root = self._find(model)
        path = directory / SETTINGS_FILE
        if path.is_symlink() and not files.is_regular_inside(path, root):
            raise RegistryError(f"{model}/{SETTINGS_FILE} is a link that leaves the registry")
        return load_settings(path)

    def publish(
        self,
        model: str,
        file: Path,
        *,
        inspect: Callable[[Path], Signature],
        provenance: Mapping[str, Any] | None = None,
    ) -> int:
        """Copy an ONNX file, and the external data beside it, into the registry as the next version.

        `inspect` loads the copy and gives its signature, or raises why it cannot be served. On any failure
        nothing is left behind. Makes the registry directory if there is none.
        """
        return publishing.publish(self.path, model, file, inspect, dict(provenance or {}))

    def _find(self, model: str) -> tuple[Path, Path]:
        """Give the model's directory and the resolved registry."""
        root = self.path.resolve()
        if not is_model(model) or not _is_directory_inside(self.path / model, root):
            raise ModelNotFound(model)
        return self.path / model, root

    def _find_version(self, model: str, version: int) -> tuple[Path, Path]:
        directory, root = self._find(model)
        name = str(version)
        if parse_version(name) is None or not _is_whole(directory / name, root):
            raise VersionNotFound(model, name)
        return directory / name, root


def _scan(directory: Path, root: Path) -> Iterator[int]:
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                version = parse_version(entry.name)
                if version is not None and _is_whole(Path(entry.path), root):
                    yield version
    except OSError as error:
        raise RegistryError(f"model '{directory.name}' cannot be read: {error.strerror}") from error


def _is_whole(directory: Path, root: Path) -> bool:
    """Tell whether a version can be tried: publishing renames whole directories, so model.onnx says it."""
    return _is_directory_inside(directory, root) and files.is_regular_inside(directory / MODEL_FILE, root)


def _is_directory_inside(path: Path, root: Path) -> bool:
    """Tell whether this is a directory, or a link to one, that does not lie outside the registry."""
    try:
        return path.is_dir() and (not path.is_symlink() or path.resolve(strict=True).is_relative_to(root))
    except (OSError, RuntimeError):  # RuntimeError: a link that points to itself
        return False
