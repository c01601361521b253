"""How a version gets in: staged out of sight, checked, hashed, synced, then visible by one rename."""

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from pydantic_core import to_json

from fastserve.errors import ModelRejected, RegistryError
from fastserve.registry import audit, changes, files
from fastserve.registry.holding import Hold, hold_directory
from fastserve.registry.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    MAX_PROFILE_BYTES,
    MODEL_FILE,
    PROFILE_FILE,
    FileRecord,
    Manifest,
)
from fastserve.registry.names import check_alias, check_model, is_version, parse_version
from fastserve.registry.rules import FileRules, check_model_file
from fastserve.registry.signing import SIGNATURE_FILE, SigningKey
from fastserve.types import Signature

STAGING_PREFIX = ".staging-"

_CHUNK_BYTES = 1024 * 1024
_READ_ONLY = 0o444
_RESERVED = frozenset({MODEL_FILE, MANIFEST_FILE, SIGNATURE_FILE, PROFILE_FILE, "profile.npz"})
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


def publish(
    root: Path,
    model: str,
    file: Path,
    inspect: Callable[[Path], Signature],
    provenance: dict[str, Any],
    *,
    rules: FileRules,
    sign: SigningKey | None = None,
    alias: str | None = None,
    profile: bytes | None = None,
) -> int:
    """Publish `file` as the next version of `model`, give its number; a failure leaves nothing behind.

    Raises
    ------
    RegistryError, ModelRejected, RuntimeMissing
    """
    check_model(model)
    if alias is not None:
        check_alias(alias)
    _check_json(provenance)
    if profile is not None:
        check_profile_size(profile)
    if not file.is_file():
        raise RegistryError(f"'{file}' is not a file")
    directory = root / model
    try:
        with _staging(root, directory) as staging:
            recorded = _stage(file, staging, rules, profile)
            # May take seconds, so the lock that numbers are given under is not held.
            signature = inspect(staging / MODEL_FILE)
            version = _commit(directory, staging, recorded, signature, provenance, sign)
            # Still held: nothing is collected before the alias keeps it.
            if alias is not None:
                _point(directory, alias, version)
        return version
    except OSError as error:
        raise RegistryError(f"cannot publish to '{directory}': {error.strerror or error}") from error


@contextmanager
def _staging(root: Path, directory: Path) -> Iterator[Path]:
    """Give a directory that nobody sees and no collector removes; what is still there when it fails, goes."""
    if directory.is_symlink() and not directory.resolve().is_relative_to(root.resolve()):
        raise RegistryError(f"cannot publish to '{directory}': it is a link that leaves the registry")
    is_new = not directory.exists()
    if not is_new and (directory.is_symlink() or directory.name not in os.listdir(root)):
        # A link, or other capitals where a file system sees no difference: manifests have one name.
        raise RegistryError(
            f"'{directory.name}' is another name of a model that is there: publish by its own"
        )
    staging = directory / f"{STAGING_PREFIX}{os.getpid()}-{secrets.token_hex(6)}"
    try:
        with _make_staging(root, staging):
            try:
                yield staging
            except BaseException:
                shutil.rmtree(staging, ignore_errors=True)
                raise
    except BaseException:
        if is_new:
            with suppress(OSError):  # not empty: another publisher has begun
                directory.rmdir()
        raise


def _make_staging(root: Path, staging: Path) -> Hold:
    for _ in range(100):
        staging.parent.mkdir(parents=True, exist_ok=True)
        files.step(f"{staging.parent.name}: made")
        files.sync_directory(root)
        try:
            staging.mkdir()
            files.step(f"{STAGING_PREFIX}: made")
            return hold_directory(staging)
        except FileNotFoundError:
            # A publisher that failed has just removed the model's directory, which it had made, or a
            # collector has swept the staging before its lock was had.
            continue
        except OSError:
            with suppress(OSError):
                staging.rmdir()
            raise
    raise RegistryError(f"cannot publish to '{staging.parent}': it vanishes as soon as it is made")


def check_profile_size(profile: bytes) -> None:
    """Raise RegistryError when a profile is larger than any may be."""
    if len(profile) > MAX_PROFILE_BYTES:
        raise RegistryError(
            f"the profile has {len(profile)} bytes, more than the limit of {MAX_PROFILE_BYTES}: "
            "make it of fewer bins or columns"
        )


def _stage(source: Path, staging: Path, rules: FileRules, profile: bytes | None) -> dict[str, FileRecord]:
    """Copy the model and the external data it refers to, check what was copied, write the profile beside."""
    room = _Room(source.name, rules.max_version_bytes)
    recorded = {MODEL_FILE: _copy(source, staging / MODEL_FILE, room)}
    # Asked of the copy: the source may change while this runs.
    for location in sorted(check_model_file(staging / MODEL_FILE, rules, source.name)):
        if location in _RESERVED:
            raise RegistryError(
                f"the model reads external data from {location[:128]!r}; only files beside the model are read"
            )
        beside = source.parent / location
        if beside.is_symlink() or not beside.is_file():
            raise RegistryError(
                f"the model reads external data from '{location[:128]}', not a file beside it"
            )
        recorded[location] = _copy(beside, staging / location, room)
    if len(recorded) > 1:  # again, now that offsets and lengths can be compared with the files
        check_model_file(staging / MODEL_FILE, rules, source.name)
    if profile is not None:
        room.take(len(profile))
        _write(staging / PROFILE_FILE, profile)
        recorded[PROFILE_FILE] = FileRecord(sha256=hashlib.sha256(profile).hexdigest(), bytes=len(profile))
    return recorded


class _Room:
    """How many more bytes a version may take."""

    def __init__(self, name: str, limit_bytes: int) -> None:
        self._name = name
        self._limit_bytes = limit_bytes
        self._left_bytes = limit_bytes

    def take(self, size_bytes: int) -> None:
        """Take some of it; ModelRejected when there is less."""
        self.check(size_bytes)
        self._left_bytes -= size_bytes

    def check(self, size_bytes: int) -> None:
        """Raise ModelRejected when there is less than that."""
        if size_bytes > self._left_bytes:
            raise ModelRejected(
                f"{self._name}, with its external data and profile, is larger than the limit of "
                f"{self._limit_bytes} bytes (max_version_bytes)"
            )


def _copy(source: Path, target: Path, room: _Room) -> FileRecord:
    """Copy a regular file to a new, read-only, synced one and record the bytes that were really copied."""
    digest, size = hashlib.sha256(), 0
    with files.open_regular(source) as reader:
        room.check(os.fstat(reader.fileno()).st_size)  # asked first: no disk is filled in vain
        with target.open("xb") as writer:
            files.step(f"{target.name}: opened")
            while chunk := reader.read(_CHUNK_BYTES):
                room.take(len(chunk))  # asked again: it may grow meanwhile
                digest.update(chunk)
                writer.write(chunk)
                size += len(chunk)
                files.step(f"{target.name}: written")
            _finish(writer, target.name)
    return FileRecord(sha256=digest.hexdigest(), bytes=size)


def _write(target: Path, content: bytes) -> None:
    """Write a new, read-only file and sync it, in the place of one that an earlier number has left."""
    target.unlink(missing_ok=True)
    with target.open("xb") as writer:
        files.step(f"{target.name}: opened")
        writer.write(content)
        _finish(writer, target.name)


def _finish(writer: BinaryIO, name: str) -> None:
    with suppress(OSError):  # not every mounted file system has modes
        os.fchmod(writer.fileno(), _READ_ONLY)
    writer.flush()
    files.step(f"{name}: flushed")
    os.fsync(writer.fileno())
    files.step(f"{name}: synced")


def _commit(
    directory: Path,
    staging: Path,
    recorded: dict[str, FileRecord],
    signature: Signature,
    provenance: dict[str, Any],
    sign: SigningKey | None,
) -> int:
    """Give the staged files the next free number; the lock keeps two publishers from taking the same one."""
    with audit.writing(directory) as log:
        while True:
            version = _next_version(directory, log.newest_version())
            manifest = Manifest(
                model=directory.name,
                version=version,
                created_at=datetime.now(UTC),
                files=recorded,
                signature=signature,
                provenance=provenance,
            ).to_bytes()
            _seal(staging, manifest, sign)
            details = {
                "version": version,
                "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
                "signed": sign is not None,
                "files": len(recorded),
                "bytes": sum(record.bytes for record in recorded.values()),
            }
            try:
                log.commit(
                    "publish",
                    details,
                    partial(files.rename_synced, staging, directory / str(version), STAGING_PREFIX),
                )
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
                continue  # someone who knows no locks, such as rsync, has just made that directory
            return version


def _seal(staging: Path, manifest: bytes, sign: SigningKey | None) -> None:
    """Write the manifest, and its signature, beside the files it lists."""
    if len(manifest) > MAX_MANIFEST_BYTES:
        raise RegistryError(
            f"the provenance makes a {MANIFEST_FILE} of {len(manifest)} bytes, "
            f"more than the limit of {MAX_MANIFEST_BYTES}"
        )
    _write(staging / MANIFEST_FILE, manifest)
    if sign is not None:
        _write(staging / SIGNATURE_FILE, sign.sign(manifest))
    files.sync_directory(staging)
    files.step(f"{STAGING_PREFIX}: synced")


def _point(directory: Path, alias: str, version: int) -> None:
    """Let an alias point to what has just been published; the error says that it has been."""
    try:
        changes.set_alias(directory, alias, version)
    except RegistryError as error:
        raise RegistryError(
            f"version {version} of '{directory.name}' is published, "
            f"but '{alias}' does not point to it: {error}"
        ) from error


def _next_version(directory: Path, newest_ever: int) -> int:
    """Give the number after the highest one in use, whole or not, directory or not, or ever published."""
    taken = [parse_version(entry.name) or 0 for entry in directory.iterdir()]
    version = max([*taken, newest_ever]) + 1
    if not is_version(version):
        raise RegistryError(f"'{directory}' has no version number left after {version - 1}")
    return version


def _check_json(provenance: dict[str, Any]) -> None:
    try:
        to_json(provenance)
    except ValueError as error:  # pydantic's own too
        raise RegistryError(f"the provenance cannot be written as JSON: {error}") from error
