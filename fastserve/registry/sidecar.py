"""The file of a profile beside a published version, which itself never changes: `profiles/<version>.json`.

Its first line says in JSON whose profile it is and what its bytes hash to; then come the bytes, whatever they
are. Here it is written as bytes and read strictly; `profiles` puts it in its place.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from fastserve.errors import RegistryError
from fastserve.registry import files
from fastserve.registry.manifest import MAX_PROFILE_BYTES
from fastserve.registry.names import is_version, parse_version

DIRECTORY = "profiles"
MAX_HEADER_BYTES = 4 * 1024

_SUFFIX = ".json"
_KEYS = ["model", "version", "sha256", "created_at"]


class Stored(NamedTuple):
    """A profile as the registry keeps it."""

    sha256: str
    content: bytes


def path_of(directory: Path, version: int) -> Path:
    """Say where the profile beside a version of the model in `directory` lies."""
    return directory / DIRECTORY / f"{version}{_SUFFIX}"


def to_bytes(model: str, version: int, profile: Stored) -> bytes:
    """Give the file's content: made now."""
    created_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return _header([model, version, profile.sha256, created_at]) + profile.content


def read(directory: Path, version: int) -> Stored | None:
    """Read the profile beside a version; None without one.

    Raises
    ------
    RegistryError
        It cannot be read, is another version's, or is not what was written.
    """
    if not has_directory(directory):
        return None
    path = path_of(directory, version)
    label = f"{directory.name}/{DIRECTORY}/{path.name}"
    limit_bytes = MAX_HEADER_BYTES + MAX_PROFILE_BYTES
    data = files.read_inside(path, directory.parent.resolve(), limit_bytes, label)
    if data is None:
        return None
    end = data.find(b"\n", 0, MAX_HEADER_BYTES) + 1
    try:
        model, number, sha256, _ = _parse(data[:end])
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"{label}: its first line does not say whose profile it is") from error
    if (model, number) != (directory.name, version):
        raise RegistryError(
            f"{label} belongs to version {number} of {model[:128]!r}: a profile is not copied by hand"
        )
    content = data[end:]
    if len(content) > MAX_PROFILE_BYTES:
        raise RegistryError(f"{label} holds a profile larger than {MAX_PROFILE_BYTES} bytes")
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RegistryError(f"{label} does not have the checksum that its first line says")
    return Stored(sha256, content)


def holds(directory: Path, version: int, sha256: object) -> bool:
    """Tell whether this very profile lies whole beside a version; what cannot be read is another."""
    try:
        found = read(directory, version)
    except RegistryError:
        return False
    return found is not None and found.sha256 == sha256


def has_directory(directory: Path) -> bool:
    """Tell whether a model has the directory of profiles; RegistryError for a link or a file in its place."""
    path = directory / DIRECTORY
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RegistryError(f"{directory.name}/{DIRECTORY} cannot be read: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise RegistryError(f"{directory.name}/{DIRECTORY} is not a directory: move it out of the registry")
    return True


def entries(directory: Path) -> Iterator[tuple[Path, int | None]]:
    """Give what lies in the directory of profiles, sorted, each with the version it is named after."""
    path = directory / DIRECTORY
    if not _is_real_directory(path):
        return
    for one in sorted(path.iterdir()):
        yield one, parse_version(one.stem) if one.suffix == _SUFFIX else None


def find(directory: Path, version: int) -> Path | None:
    """Find the file beside a version, sound or not; None where nothing lies there."""
    path = path_of(directory, version)
    return path if _is_real_directory(path.parent) and os.path.lexists(path) else None


def _is_real_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _header(values: list[Any]) -> bytes:
    return json.dumps(dict(zip(_KEYS, values, strict=True)), separators=(",", ":")).encode() + b"\n"


def _parse(line: bytes) -> list[Any]:
    """Read a first line, its end included, that is just as it was written; ValueError when it is not."""
    found = json.loads(line)
    if not isinstance(found, dict) or list(found) != _KEYS or not isinstance(found["created_at"], str):
        raise ValueError("not a header")
    datetime.fromisoformat(found["created_at"])
    values = list(found.values())
    if _header(values) != line or not isinstance(found["model"], str) or not is_version(found["version"]):
        raise ValueError("not a header")
    return values
