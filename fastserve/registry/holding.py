"""Who is at work in a directory, told by a lock on it: no write, no clock, and it dies with its process.

Whoever serves or stages a version shares the lock on the version's own directory. The collector takes it
alone, or keeps its hands off. On network file systems such locks are seen by one machine only: collect where
the servers run.
"""

import errno
import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from fastserve.errors import RegistryError, VersionNotFound

log = logging.getLogger("fastserve.registry")

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_said = threading.Lock()
"""Taken for good by the one thread that says that there are no locks."""


class Hold:
    """Keeps a directory from being collected until it is closed or its process ends. Thread-safe."""

    __slots__ = ("_closing", "_descriptor")

    def __init__(self, descriptor: int) -> None:
        self._closing = threading.Lock()
        self._descriptor: int | None = descriptor

    @property
    def is_real(self) -> bool:
        """Whether a lock is held; not so after `close`, and where the file system knows no locks."""
        return self._descriptor is not None

    def close(self) -> None:
        """Let go; a second time does nothing."""
        with self._closing:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def hold(directory: Path) -> Hold:
    """Keep a version from being collected.

    Raises
    ------
    VersionNotFound
        It is not there, or no longer.
    RegistryError
        It cannot be opened.
    """
    try:
        return hold_directory(directory)
    except (FileNotFoundError, NotADirectoryError):
        raise VersionNotFound(directory.parent.name, directory.name) from None
    except OSError as error:
        raise RegistryError(
            f"{directory.parent.name}/{directory.name} cannot be opened: {error.strerror}"
        ) from error


def hold_directory(directory: Path) -> Hold:
    """Share the lock on any directory; FileNotFoundError when the collector was faster."""
    descriptor = os.open(directory, _DIRECTORY)
    try:
        # A collector has the lock alone only for as long as one rename takes, so waiting for it is short.
        is_real = _share(descriptor)
        # What was locked may have been renamed out of the way before the lock was had.
        if not os.path.samestat(os.fstat(descriptor), directory.stat()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(directory))
    except BaseException:
        os.close(descriptor)
        raise
    held = Hold(descriptor)
    if not is_real:
        held.close()
    return held


@contextmanager
def alone(directory: Path) -> Iterator[bool]:
    """Tell whether nobody holds the directory, and keep it so meanwhile; False when that cannot be told."""
    try:
        descriptor = os.open(directory, _DIRECTORY)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held, or a file system that knows no locks: then somebody may well be there
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _share(descriptor: int) -> bool:
    """Share the lock; False, which is said once, where the file system knows none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError as error:
        if _said.acquire(blocking=False):  # and never given back
            log.warning(
                "the registry's file system knows no locks (%s): `models gc` cannot tell what is in use",
                error.strerror,
            )
        return False
    return True
