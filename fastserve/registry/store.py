"""The registry directory: list, describe and verify what is there, publish what is new.

A version becomes visible by one rename of a directory that is complete, hashed and synced, so there is no moment at
which half of it can be seen, whatever dies; and a name that exists is never written to again.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fastserve.errors import ModelNotFound, RegistryError, VersionNotFound
from fastserve.registry import files, publishing
from fastserve.registry.external import external_locations
from fastserve.registry.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, MODEL_FILE, Manifest, is_file_name
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
        known = {*self.manifest.signature.inputs, *self.manifest.signature.outputs}
        loaded = {*signature.inputs, *signature.outputs}
        names = sorted({tensor.name for tensor in known ^ loaded}) or [
            "the batch dimension or the order of tensors"
        ]
        raise RegistryError(
            f"{self.model}/{self.version}/{MANIFEST_FILE} has another signature than the model: {', '.join(names)}"
        )


class Registry:
    """A registry directory. Safe from any number of threads and processes at once; keeps nothing in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def models(self) -> list[str]:
        """Names of the models that have a whole version, sorted; RegistryError without a registry."""
        try:
            with os.scandir(self.path) as entries:
                names = [entry.name for entry in entries if is_model(entry.name) and entry.is_dir()]
        except OSError as error:
            raise RegistryError(f"registry '{self.path}' cannot be read: {error.strerror}") from error
        root = self.path.resolve()
        return sorted(name for name in names if any(True for _ in self._scan(root, name)))

    def versions(self, model: str) -> list[int]:
        """Numbers of a model's whole versions, ascending; ModelNotFound when there is no such model."""
        root = self.path.resolve()
        if not is_model(model) or not _is_directory_inside(self.path / model, root):
            raise ModelNotFound(model)
        return sorted(self._scan(root, model))

    def describe(self, model: str, version: int) -> VersionRecord:
        """Find one version and read its manifest; RegistryError when that is broken."""
        root = self.path.resolve()
        if not is_model(model) or not _is_directory_inside(self.path / model, root):
            raise ModelNotFound(model)
        if not self._is_whole(root, self.path / model / str(version)):
            raise VersionNotFound(model, str(version))
        directory = self.path / model / str(version)
        return VersionRecord(
            model, version, directory / MODEL_FILE, _read_manifest(directory / MANIFEST_FILE, root)
        )

    def verify(self, model: str, version: int) -> VersionRecord:
        """Compare every file with the manifest, sizes first; RegistryError names the first that is wrong.

        Without a manifest only the places of external data can be checked.
        """
        record = self.describe(model, version)
        label, directory, root = f"{model}/{version}", record.path.parent, self.path.resolve()
        manifest = record.manifest
        if manifest is not None:
            if (manifest.model, manifest.version) != (model, version):
                raise RegistryError(
                    f"{label}/{MANIFEST_FILE} belongs to {manifest.model}/{manifest.version}: "
                    "a version is not moved or copied by hand, publish the file instead"
                )
            _verify_files(label, directory, manifest, root)
        for location in sorted(external_locations(record.path)):
            if not is_file_name(location) or not files.is_regular_inside(directory / location, root):
                raise RegistryError(
                    f"{label}/{MODEL_FILE} reads external data from {location[:128]!r}, not beside it"
                )
            if manifest is not None and location not in manifest.files:
                raise RegistryError(f"{label}/{location} holds weights but is not in the manifest")
        return record

    def settings(self, model: str) -> ModelSettings:
        """Read the model's `model.yaml`; defaults without one, RegistryError naming what is wrong in it."""
        root = self.path.resolve()
        if not is_model(model) or not _is_directory_inside(self.path / model, root):
            raise ModelNotFound(model)
        path = self.path / model / SETTINGS_FILE
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

        `inspect` loads the copy and gives its signature, or raises why it cannot be served. On any failure nothing
        is left behind. Makes the registry directory if there is none.
        """
        return publishing.publish(self.path, model, file, inspect, dict(provenance or {}))

    def _scan(self, root: Path, model: str) -> Iterator[int]:
        try:
            with os.scandir(self.path / model) as entries:
                for entry in entries:
                    version = parse_version(entry.name)
                    if version is not None and self._is_whole(root, Path(entry.path)):
                        yield version
        except OSError as error:
            raise RegistryError(f"model directory '{model}' cannot be read: {error.strerror}") from error

    @staticmethod
    def _is_whole(root: Path, directory: Path) -> bool:
        return _is_directory_inside(directory, root) and files.is_regular_inside(directory / MODEL_FILE, root)


def _is_directory_inside(path: Path, root: Path) -> bool:
    """Tell whether this is a directory, or a link to one, that does not lie outside the registry."""
    try:
        return path.is_dir() and (not path.is_symlink() or path.resolve(strict=True).is_relative_to(root))
    except (OSError, RuntimeError):
        return False


def _read_manifest(path: Path, root: Path) -> Manifest | None:
    label = "/".join(path.parts[-3:])
    if not os.path.lexists(path):
        return None
    if not files.is_regular_inside(path, root):
        raise RegistryError(f"{label} is not a regular file inside the registry")
    try:
        with files.open_regular(path) as reader:
            data = reader.read(MAX_MANIFEST_BYTES + 1)
        if len(data) > MAX_MANIFEST_BYTES:
            raise RegistryError(f"{label} is larger than {MAX_MANIFEST_BYTES} bytes")
        return Manifest.model_validate_json(data)
    except OSError as error:
        raise RegistryError(f"{label} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RegistryError(
            f"{label} is not a manifest: {where + ': ' if where else ''}{first['msg']}"
        ) from error


def _verify_files(label: str, directory: Path, manifest: Manifest, root: Path) -> None:
    """Check presence and sizes of all files, which is cheap, before any checksum."""
    if MODEL_FILE not in manifest.files:
        raise RegistryError(f"{label}/{MANIFEST_FILE} does not list {MODEL_FILE}")
    try:
        for name, record in manifest.files.items():
            if not files.is_regular_inside(directory / name, root):
                raise RegistryError(f"{label}/{name} is missing or not a regular file inside the registry")
            size = (directory / name).stat().st_size
            if size != record.bytes:
                raise RegistryError(f"{label}/{name} has {size} bytes, the manifest says {record.bytes}")
        for name, record in manifest.files.items():
            if files.hash_file(directory / name) != record.sha256:
                raise RegistryError(f"{label}/{name} does not have the checksum in the manifest")
    except OSError as error:
        raise RegistryError(f"{label} cannot be read: {error.strerror}") from error
