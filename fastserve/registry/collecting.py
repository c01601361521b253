"""What nobody needs any more, and how it goes: renamed out of sight under the lock, then deleted.

Kept are the newest versions, whatever an alias points to, whatever a link of another version leads to, and
whatever somebody holds (`holding`). Leftovers of publishers and writers that died go along, and profiles
beside versions that are gone.
"""

import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Set
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from fastserve.errors import RegistryError
from fastserve.registry import audit, files, listing, sidecar
from fastserve.registry.audit import AuditLog
from fastserve.registry.holding import alone
from fastserve.registry.names import parse_version
from fastserve.registry.publishing import STAGING_PREFIX
from fastserve.registry.state import read_state

TRASH_PREFIX = ".trash-"

_MAX_FILES = 10_000


@dataclass(frozen=True, slots=True)
class Removed:
    """Something that was removed, or would be."""

    model: str
    what: str
    """A version's number, or the name of a leftover."""
    bytes: int
    why: str


def gc(directory: Path, keep: int, linked: Set[Path], *, dry_run: bool) -> list[Removed]:
    """Remove a model's old versions and leftovers; with `dry_run` only say which.

    Parameters
    ----------
    keep
        How many of the newest versions stay, at least 1.
    linked
        Versions that stay for the sake of others, as `linked` finds them.

    Raises
    ------
    RegistryError
        The model's directory cannot be read or changed.
    """
    if keep < 1:
        raise RegistryError("at least one version of each model must be kept")
    try:
        return _collect(directory, keep, linked, dry_run)
    except OSError as error:
        raise RegistryError(f"model '{directory.name}' cannot be cleaned up: {error.strerror}") from error


def linked(root: Path) -> set[Path]:
    """Find the versions in a registry that others are links to, or hold links into: without them they break.

    RegistryError when the registry cannot be read.
    """
    found: set[Path] = set()
    for model in listing.directories(root):
        with suppress(RegistryError):  # who cannot read it does not serve it either
            for version, _ in listing.places(root / model, root.resolve()):
                with suppress(OSError):  # the same, or it has just been removed
                    found |= _linked_by(root / model / str(version))
    return found


def _linked_by(version: Path) -> set[Path]:
    own = version.resolve()
    found: set[Path] = set()
    for link in filter(Path.is_symlink, version.rglob("*")):
        # A link may lead to another, whose version is needed as much as the one that both end in.
        for target in (os.path.realpath(link), os.path.realpath((link.parent / link.readlink()).parent)):
            found |= {Path(target), *Path(target).parents}
    return found | {own} if version.is_symlink() else found - {own}


def _collect(directory: Path, keep: int, linked: Set[Path], dry_run: bool) -> list[Removed]:
    """Decide and rename under the lock; delete, which takes time, without it."""
    if dry_run:
        return [one for _, one in _free(directory, keep, linked)]
    if not any(True for _ in _free(directory, keep, linked)):
        return []  # nothing is written into a tree where nothing is done
    removed: list[Removed] = []
    trash: list[Path] = []
    try:
        with audit.writing(directory) as log:
            for path, one in _free(directory, keep, linked):
                trash += _put_away(log, directory, path)
                removed.append(one)
    finally:  # on a full disk too, where the next log line may need what this frees
        for path in trash:
            _delete(path)
    return removed


def _free(directory: Path, keep: int, linked: Set[Path]) -> Iterator[tuple[Path, Removed]]:
    """What nobody needs or holds; kept so until the next one is asked for."""
    for path, why in [*_leftovers(directory), *_old_versions(directory, keep, linked)]:
        with alone(path) if path.is_dir() else nullcontext(True) as is_free:
            if not is_free:
                continue
            try:
                size = sum(map(_size_bytes, [path, *_beside(directory, path)]))
            except FileNotFoundError:
                continue  # a publisher that failed, or another collector, has just removed it
            yield path, Removed(directory.name, str(path.relative_to(directory)), size, why)


def _old_versions(directory: Path, keep: int, linked: Set[Path]) -> Iterator[tuple[Path, str]]:
    """Versions beyond the newest `keep` that no alias points to, the oldest first.

    Archived ones do not count: the newest `keep` that can be served stay, whatever has been put away since.
    """
    state = read_state(directory)
    versions = sorted(listing.versions(directory, directory.parent.resolve()))
    sound = [version for version in versions if version not in state.archived]
    kept = {*versions[-keep:], *sound[-keep:], *state.aliases.values()}
    for version in versions:
        path = directory / str(version)
        if version not in kept and not path.is_symlink() and path.resolve() not in linked:
            yield path, f"older than the newest {keep}, no alias, not in use"


def _leftovers(directory: Path) -> Iterator[tuple[Path, str]]:
    why = {
        STAGING_PREFIX: "a publisher died",
        TRASH_PREFIX: "a collector died",
        files.TEMPORARY_PREFIX: "a writer died",
    }
    for name in sorted(os.listdir(directory)):
        for prefix, reason in why.items():
            if name.startswith(prefix):
                yield directory / name, reason
    for path, version in sidecar.entries(directory):
        if path.name.startswith(files.TEMPORARY_PREFIX):
            yield path, why[files.TEMPORARY_PREFIX]
        elif version is not None and not (path.is_dir() or os.path.lexists(directory / str(version))):
            yield path, "its version is gone"


def _beside(directory: Path, path: Path) -> list[Path]:
    """Find the profile that was put beside a version, which nobody needs without it."""
    version = parse_version(path.name)
    found = None if version is None else sidecar.find(directory, version)
    return [] if found is None else [found]


def _put_away(log: AuditLog, directory: Path, path: Path) -> list[Path]:
    """Take a version out of sight, with its line in the log; leftovers need none. Gives what is to delete."""
    target = path.with_name(f"{TRASH_PREFIX}{path.name.lstrip('.')}-{secrets.token_hex(6)}")
    if path.name.startswith(STAGING_PREFIX):
        # Its publisher may only just have made it: the hold it takes next must not find it under its name.
        return [path.rename(target)]
    version = parse_version(path.name)
    if version is None:
        return [path]
    log.commit("gc", {"version": version}, partial(files.rename_synced, path, target, TRASH_PREFIX))
    return [target, *_beside(directory, path)]


def _delete(path: Path) -> None:
    """Delete; what cannot be deleted now is a leftover for the next time."""
    if path.is_dir() and not path.is_symlink():
        for folder, _, _ in os.walk(path):  # whoever published it may have protected it by hand
            with suppress(OSError):
                os.chmod(folder, stat.S_IRWXU)  # noqa: PTH101 - as walk gives it
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    files.step(f"{TRASH_PREFIX}: deleted")


def _size_bytes(path: Path) -> int:
    """Bytes of a file, or of the files of a version and of what may lie below."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    found = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)  # noqa: PTH118
    return sum(os.lstat(one).st_size for one in islice(found, _MAX_FILES))
