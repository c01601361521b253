"""Is a version on disk what was published? Asked before every load, never trusting what can be asked."""

import os
from pathlib import Path

from pydantic import ValidationError

from fastserve.errors import RegistryError
from fastserve.registry import files
from fastserve.registry.external import external_locations
from fastserve.registry.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    MODEL_FILE,
    Manifest,
    is_file_name,
)


def read_manifest(directory: Path, root: Path) -> Manifest | None:
    """Read a version's manifest; None without one, RegistryError when it is broken or lies outside `root`."""
    path, label = directory / MANIFEST_FILE, _label(directory, MANIFEST_FILE)
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


def verify(directory: Path, manifest: Manifest | None, root: Path) -> None:
    """Compare every file with the manifest, sizes first; RegistryError names the first that is wrong.

    Without a manifest the places of external data are all there is to check. `root` is the resolved registry.
    """
    try:
        if manifest is not None:
            _verify_belonging(directory, manifest)
            _verify_files(directory, manifest, root)
        _verify_external(directory, manifest, root)
    except OSError as error:
        raise RegistryError(f"{_label(directory)} cannot be read: {error.strerror}") from error


def _verify_belonging(directory: Path, manifest: Manifest) -> None:
    if (manifest.model, str(manifest.version)) != (directory.parent.name, directory.name):
        raise RegistryError(
            f"{_label(directory, MANIFEST_FILE)} belongs to {manifest.model}/{manifest.version}: "
            "a version is not moved or copied by hand; publish the file instead"
        )


def _verify_files(directory: Path, manifest: Manifest, root: Path) -> None:
    """Check presence and size of all files, which is cheap, before any checksum."""
    if MODEL_FILE not in manifest.files:
        raise RegistryError(f"{_label(directory, MANIFEST_FILE)} does not list {MODEL_FILE}")
    for name, record in manifest.files.items():
        path = directory / name
        if not files.is_regular_inside(path, root):
            raise RegistryError(
                f"{_label(directory, name)} is missing or not a regular file inside the registry"
            )
        size = path.stat().st_size
        if size != record.bytes:
            raise RegistryError(
                f"{_label(directory, name)} has {size} bytes, the manifest says {record.bytes}"
            )
    for name, record in manifest.files.items():
        if files.hash_file(directory / name) != record.sha256:
            raise RegistryError(
                f"{_label(directory, name)} does not have the checksum that the manifest says"
            )


def _verify_external(directory: Path, manifest: Manifest | None, root: Path) -> None:
    for location in sorted(external_locations(directory / MODEL_FILE)):
        if not is_file_name(location) or not files.is_regular_inside(directory / location, root):
            raise RegistryError(
                f"{_label(directory, MODEL_FILE)} reads external data from {location[:128]!r}, "
                "which is not a file beside it"
            )
        if manifest is not None and location not in manifest.files:
            raise RegistryError(f"{_label(directory, location)} holds weights but is not in the manifest")


def _label(directory: Path, name: str = "") -> str:
    """Name a file as a person knows it, without where the registry lies."""
    return "/".join(filter(None, (directory.parent.name, directory.name, name)))
