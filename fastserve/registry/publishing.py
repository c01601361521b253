"""How a version gets in: staged out of sight, checked, hashed, synced, then visible by one rename."""

import errno
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from fastserve.errors import RegistryError
from fastserve.registry import files
from fastserve.registry.external import external_locations
from fastserve.registry.manifest import MANIFEST_FILE, MODEL_FILE, FileRecord, Manifest, is_file_name
from fastserve.registry.names import check_model, parse_version
from fastserve.types import Signature

LOCK_FILE = ".lock"
STAGING_PREFIX = ".staging-"

_RESERVED = frozenset({MODEL_FILE, MANIFEST_FILE, "profile.npz"})
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


def publish(
    root: Path, model: str, file: Path, inspect: Callable[[Path], Signature], provenance: dict[str, Any]
) -> int:
    """Publish `file` as the next version of `model`, give its number; a failure leaves nothing behind."""
    check_model(model)
    _check_json(provenance)
    if not file.is_file():
        raise RegistryError(f"'{file}' is not a file")
    directory = root / model
    try:
        is_new = not directory.exists()
        staging = _make_staging(root, directory)
        try:
            recorded = _stage(file, staging)
            signature = inspect(staging / MODEL_FILE)
            return _commit(directory, staging, recorded, signature, provenance)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            if is_new:
                with suppress(OSError):  # not empty: another publisher has begun
                    directory.rmdir()
            raise
    except OSError as error:
        raise RegistryError(f"cannot publish to '{directory}': {error.strerror or error}") from error


def _make_staging(root: Path, directory: Path) -> Path:
    staging = directory / f"{STAGING_PREFIX}{os.getpid()}-{secrets.token_hex(6)}"
    for _ in range(100):
        directory.mkdir(parents=True, exist_ok=True)
        files.sync_directory(root)
        try:
            staging.mkdir()
        except FileNotFoundError:  # a publisher that failed has just removed the directory it had made
            continue
        return staging
    raise RegistryError(f"cannot publish to '{directory}': it vanishes as soon as it is made")


def _stage(source: Path, staging: Path) -> dict[str, FileRecord]:
    """Copy the model and the external data it refers to."""
    recorded = {MODEL_FILE: files.copy_hashed(source, staging / MODEL_FILE)}
    # Asked of the copy: the source may change while this runs.
    for location in sorted(external_locations(staging / MODEL_FILE)):
        if not is_file_name(location) or location in _RESERVED:
            raise RegistryError(
                f"the model reads external data from {location[:128]!r}; only files beside the model are read"
            )
        beside = source.parent / location
        if beside.is_symlink() or not beside.is_file():
            raise RegistryError(
                f"the model reads external data from '{location[:128]}', not a file beside it"
            )
        recorded[location] = files.copy_hashed(beside, staging / location)
    return recorded


def _commit(
    directory: Path,
    staging: Path,
    recorded: dict[str, FileRecord],
    signature: Signature,
    provenance: dict[str, Any],
) -> int:
    """Give the staged files the next free number; the lock keeps two publishers from taking the same one."""
    with files.locked(directory / LOCK_FILE):
        while True:
            version = _next_version(directory)
            manifest = Manifest(
                model=directory.name,
                version=version,
                created_at=datetime.now(UTC),
                files=recorded,
                signature=signature,
                provenance=provenance,
            )
            (staging / MANIFEST_FILE).unlink(missing_ok=True)
            files.write_synced(staging / MANIFEST_FILE, manifest.to_bytes())
            files.sync_directory(staging)
            try:
                staging.rename(directory / str(version))
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
                continue  # someone who knows no locks, such as rsync, has just made that directory
            files.sync_directory(directory)
            return version


def _next_version(directory: Path) -> int:
    """Give the number after the highest one in use, whole or not, directory or not."""
    taken = [parse_version(entry.name) or 0 for entry in directory.iterdir()]
    version = max(taken, default=0) + 1
    if parse_version(str(version)) is None:
        raise RegistryError(f"'{directory}' has no version number left after {version - 1}")
    return version


def _check_json(provenance: dict[str, Any]) -> None:
    try:
        to_json(provenance)
    except (PydanticSerializationError, ValueError) as error:  # ValueError: it contains itself
        raise RegistryError(f"the provenance cannot be written as JSON: {error}") from error
