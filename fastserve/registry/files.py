"""Reading, hashing, replacing, syncing, locking: the dull file work that lets nothing be seen half done."""

import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from fastserve.errors import RegistryError

TEMPORARY_PREFIX = ".tmp-"

on_step: Callable[[str], None] | None = None
"""Told before and after every write, sync and rename; how tests let a process die just there."""


def step(name: str) -> None:
    """Mark a moment at which a process may be killed, and everything must still be right."""
    if on_step is not None:
        on_step(name)


def replace_synced(target: Path, content: bytes) -> None:
    """Put a new content in a file's place: whoever reads finds the old one or the new one, whatever dies."""
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(6)}")
    try:
        write_synced(temporary, content, target)
        temporary.rename(target)
        step(f"{target.name}: renamed")
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(target.parent)
    step(f"{target.name}: durable")


def write_synced(new: Path, content: bytes, target: Path) -> None:
    """Write a new file that is to take another's place, with the mode and owner of that one, and sync it."""
    with new.open("xb") as writer:
        step(f"{target.name}: opened")
        _keep_owner(writer.fileno(), target)
        writer.write(content)
        writer.flush()
        step(f"{target.name}: written")
        os.fsync(writer.fileno())
    step(f"{target.name}: synced")


def _keep_owner(descriptor: int, target: Path) -> None:
    """Give a new file the mode and owner of the one whose place it takes, as far as this user may.

    Else one command of root's, under the umask of a hardened machine, would take a file from its readers.
    """
    with suppress(OSError):
        old = target.lstat()
        if stat.S_ISREG(old.st_mode):
            os.fchmod(descriptor, old.st_mode & 0o777)
            os.fchown(descriptor, -1, old.st_gid)  # which others than root may do, of groups that they are in
            os.fchown(descriptor, old.st_uid, -1)


def rename_synced(source: Path, target: Path, label: str) -> None:
    """Give a directory another name beside it, durably or not at all; `label` names its steps."""
    source.rename(target)
    step(f"{label}: renamed")
    try:
        sync_directory(target.parent)
    except OSError:
        target.rename(source)
        raise
    step(f"{label}: durable")


def hash_file(path: Path) -> str:
    """Give the file's sha256 as hexadecimal digits."""
    with open_regular(path) as reader:
        return hashlib.file_digest(reader, "sha256").hexdigest()


def read_inside(path: Path, root: Path, limit_bytes: int, label: str) -> bytes | None:
    """Read a small file, once; None without it, RegistryError for a large one or one outside `root`."""
    if not os.path.lexists(path):
        return None
    if not is_regular_inside(path, root):
        raise RegistryError(f"{label} is not a regular file inside the registry")
    try:
        with open_regular(path) as reader:
            data = reader.read(limit_bytes + 1)
    except OSError as error:
        raise RegistryError(f"{label} cannot be read: {error.strerror}") from error
    if len(data) > limit_bytes:
        raise RegistryError(f"{label} is larger than {limit_bytes} bytes")
    return data


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading; RegistryError for a directory, a pipe or a device, and no waiting on one."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RegistryError(f"{path.name} is not a regular file")
    return os.fdopen(descriptor, "rb")


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock on a file, made if need be, never a link; keeps threads, NFS clients apart."""
    # flock belongs to the open file, not to the process as POSIX locks do: threads exclude each other too.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_regular_inside(path: str | Path, root: Path) -> bool:
    """Tell whether this is a regular file, or a link to one, not outside `root` (a resolved path)."""
    return stat.S_ISREG(_mode_inside(path, root))


def is_directory_inside(path: Path, root: Path) -> bool:
    """Tell whether this is a directory, or a link to one, not outside `root` (a resolved path)."""
    return stat.S_ISDIR(_mode_inside(path, root))


def _mode_inside(path: str | Path, root: Path) -> int:
    """Give the mode of what lies here, or of where a link leads that stays inside `root`; else 0."""
    try:
        mode = os.lstat(path).st_mode
        if not stat.S_ISLNK(mode):
            return mode
        real = Path(path).resolve(strict=True)
        return real.stat().st_mode if real.is_relative_to(root) else 0
    except (OSError, RuntimeError):  # RuntimeError: a link that points to itself
        return 0
