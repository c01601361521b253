"""Is a version on disk what was published? Asked before every load, never trusting what can be asked."""

import os
import stat
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import orjson
from pydantic import ValidationError

from fastserve.errors import RegistryError
from fastserve.overriding import place_and_problem
from fastserve.registry import files
from fastserve.registry.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, MODEL_FILE, Manifest
from fastserve.registry.names import is_file_name
from fastserve.registry.rules import FileRules, check_model_file
from fastserve.registry.signing import MAX_SIGNATURE_BYTES, SIGNATURE_FILE, TrustedKeys

_MAX_ENTRIES = 10_000


def read_manifest(directory: Path, root: Path) -> Manifest | None:
    """Read a version's manifest; None without one, RegistryError when it is broken or lies outside `root`."""
    return _parse(directory, _manifest_bytes(directory, root))


def is_complete(directory: Path, root: Path) -> bool:
    """Tell whether there is a manifest, and every file that it lists is there in full size.

    Asked of all versions at once, so nothing else in the manifest is looked at.

    Raises
    ------
    RegistryError, OSError
        What cannot be read, or is no list of files.
    """
    data = _manifest_bytes(directory, root)
    if data is None:
        return False
    try:
        listed = {name: record["bytes"] for name, record in orjson.loads(data)["files"].items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RegistryError(f"{_label(directory, MANIFEST_FILE)} does not list files") from error
    return all(
        is_file_name(name) and os.stat(f"{directory}/{name}").st_size == size  # noqa: PTH116 - asked of thousands
        for name, size in listed.items()
    )


def verify(directory: Path, root: Path, rules: FileRules, trusted: TrustedKeys | None) -> Manifest | None:
    """Check every file of a version, sizes first, and give its manifest; RegistryError names what is wrong.

    Without a manifest the model file and the kinds and sizes of files are all there is to check. `root` is
    the resolved registry; with `trusted` keys one of them must have signed the manifest.

    Raises
    ------
    RegistryError, ModelRejected
    """
    # Read once: the bytes that were signed are the ones that count, whatever takes their place meanwhile.
    data = _manifest_bytes(directory, root)
    manifest = _parse(directory, data)
    try:
        found = list(_files_of(directory))
        _verify_size(directory, found, rules)
        if trusted is not None:
            _verify_signature(directory, data, root, trusted)
        if manifest is not None:
            _verify_belonging(directory, manifest)
            _verify_files(directory, manifest, root)
        _verify_model(directory, manifest, root, rules)
        _verify_kinds(directory, found, root)
        return manifest
    except OSError as error:
        raise RegistryError(f"{_label(directory)} cannot be read: {error.strerror}") from error


def _manifest_bytes(directory: Path, root: Path) -> bytes | None:
    label = _label(directory, MANIFEST_FILE)
    return files.read_inside(directory / MANIFEST_FILE, root, MAX_MANIFEST_BYTES, label)


def _parse(directory: Path, data: bytes | None) -> Manifest | None:
    if data is None:
        return None
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        label = _label(directory, MANIFEST_FILE)
        raise RegistryError(f"{label} is not a manifest: {place_and_problem(error)}") from error


def _files_of(directory: Path) -> Iterator[Path]:
    """Give everything in a version that is not a directory, links to directories too."""
    pending, count = [directory], 0
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                count += 1
                if count > _MAX_ENTRIES:
                    raise RegistryError(f"{_label(directory)} has more than {_MAX_ENTRIES} files")
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                else:
                    yield Path(entry.path)


def _verify_size(directory: Path, found: list[Path], rules: FileRules) -> None:
    """Sum up the sizes, which is cheap, before any byte is read."""
    total = 0
    for path in found:
        with suppress(OSError):  # a link that leads nowhere has no size, and is refused further on
            total += path.stat().st_size
    if total > rules.max_version_bytes:
        raise RegistryError(
            f"{_label(directory)} has {total} bytes, more than the limit of {rules.max_version_bytes} "
            "(lifecycle.max_version_bytes)"
        )


def _verify_signature(directory: Path, manifest: bytes | None, root: Path, trusted: TrustedKeys) -> None:
    label = _label(directory, SIGNATURE_FILE)
    signature = files.read_inside(directory / SIGNATURE_FILE, root, MAX_SIGNATURE_BYTES, label)
    if manifest is None or signature is None:
        missing = MANIFEST_FILE if manifest is None else SIGNATURE_FILE
        raise RegistryError(f"{_label(directory)} is not signed: it has no {missing}")
    if not trusted.accept(manifest, signature):
        raise RegistryError(f"{_label(directory)} is not signed by a trusted key")


def _verify_kinds(directory: Path, found: list[Path], root: Path) -> None:
    """Refuse what is no regular file, and files that have a name elsewhere too, by which they can change."""
    names: dict[tuple[int, int], set[str]] = defaultdict(set)
    links: dict[tuple[int, int], tuple[int, Path]] = {}
    for path in found:
        label = f"{_label(directory)}/{path.relative_to(directory)}"
        try:
            real = path.resolve(strict=True) if path.is_symlink() else path
        except (OSError, RuntimeError) as error:  # RuntimeError: a link that points to itself
            raise RegistryError(f"{label} is a link that leads nowhere") from error
        if real is not path and not real.is_relative_to(root):
            raise RegistryError(f"{label} is a link that leaves the registry")
        status = real.stat()
        if stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode):
            raise RegistryError(f"{label} is not a regular file")
        inode = status.st_dev, status.st_ino
        names[inode].add(str(real if real is not path else path.parent.resolve() / path.name))
        links[inode] = status.st_nlink, path
    for inode, (count, path) in links.items():
        if count > len(names[inode]):
            raise RegistryError(
                f"{_label(directory)}/{path.relative_to(directory)} is a hard link to a file that has "
                "another name elsewhere; copy it instead"
            )


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


def _verify_model(directory: Path, manifest: Manifest | None, root: Path, rules: FileRules) -> None:
    label = _label(directory, MODEL_FILE)
    for location in sorted(check_model_file(directory / MODEL_FILE, rules, label)):
        if not files.is_regular_inside(directory / location, root):
            raise RegistryError(
                f"{label} reads external data from {location[:128]!r}, which is not a file beside it"
            )
        if manifest is not None and location not in manifest.files:
            raise RegistryError(f"{_label(directory, location)} holds weights but is not in the manifest")


def _label(directory: Path, name: str = "") -> str:
    """Name a file as a person knows it, without where the registry lies."""
    return "/".join(filter(None, (directory.parent.name, directory.name, name)))
