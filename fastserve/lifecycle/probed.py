"""Which versions passed a test load, remembered by their bytes: workers and restarts do not test again.

In the user's own cache, never in the registry: who may write models must not be able to vouch for them. Only
success is remembered, one small file each; a missing, empty or torn one costs a test load and nothing else.
"""

import fcntl
import hashlib
import json
import logging
import os
import platform
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from fastserve.lifecycle.directory import regular_files, stamp
from fastserve.registry import VersionRecord

log = logging.getLogger("fastserve.lifecycle")

_LOCK_STEP_S = 0.02
_CONTENT = b"passed\n"
_MAX_MARKERS = 10_000
_OTHERS_WRITE = 0o022


class Marker:
    """The file that remembers one version, locked meanwhile; without a descriptor nothing is remembered."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def passed(self) -> bool:
        """Tell whether the version passed before."""
        if self._descriptor is None:
            return False
        return os.pread(self._descriptor, len(_CONTENT) + 1, 0) == _CONTENT

    def remember(self) -> None:
        """Say that the version passed."""
        if self._descriptor is not None:
            with suppress(OSError):  # then it is tested again some day
                os.pwrite(self._descriptor, _CONTENT, 0)


def fingerprint(record: VersionRecord, root: Path, *, verified: bool) -> str:
    """Say which version this is by its bytes; by place and times where nobody compared any checksum."""
    facts: list[Any] = [_release(), platform.machine()]
    if record.manifest is not None and verified:
        facts.append(sorted((name, file.sha256) for name, file in record.manifest.files.items()))
    else:
        facts += [str(root.resolve()), record.model, record.version, stamp(record.path.parent)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def own_cache() -> Path | None:
    """Find a directory that this user alone can write; None where there is none."""
    wished = os.environ.get("XDG_CACHE_HOME", "")
    places = [Path(tempfile.gettempdir()) / f"fastserve-{os.geteuid()}-probed"]
    with suppress(RuntimeError):  # a user without a home
        home = Path(wished) if Path(wished).is_absolute() else Path.home() / ".cache"
        places.insert(0, home / "fastserve" / "probed")
    for place in places:
        with suppress(OSError):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = place.lstat()
            mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
            if mine and not status.st_mode & _OTHERS_WRITE and os.access(place, os.W_OK):
                return place
    log.info("which versions passed a test load is not remembered: no directory of one's own to keep it in")
    return None


def trim(directory: Path) -> None:
    """Forget the older half when there are too many; what is forgotten is tested again."""
    # A server's start waits for this: the names alone, unless there are many.
    with suppress(OSError):
        if len(os.listdir(directory)) <= _MAX_MARKERS:
            return
    found = sorted(regular_files(directory), key=lambda pair: pair[1].st_mtime_ns)
    for name, _ in found[: len(found) // 2]:
        with suppress(OSError):
            (directory / name).unlink()


def has_passed(directory: Path | None, key: str) -> bool:
    """Tell whether a version passed before, without waiting for whoever tests it now."""
    if directory is None:
        return False
    with suppress(OSError):
        descriptor = os.open(directory / key, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return Marker(descriptor).passed()
        finally:
            os.close(descriptor)
    return False


@contextmanager
def marker(directory: Path | None, key: str, wait_s: float) -> Iterator[Marker]:
    """Hold a version's marker alone, so that two workers do not test the same; gone if the test fails."""
    descriptor = None
    if directory is not None:
        with suppress(OSError):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(directory / key, flags, 0o600)
    if directory is None or descriptor is None:
        yield Marker(None)
        return
    try:
        _lock(descriptor, time.monotonic() + wait_s)
        yield Marker(descriptor)
    except BaseException:
        with suppress(OSError):
            (directory / key).unlink()
        raise
    finally:
        os.close(descriptor)


def _lock(descriptor: int, until_s: float) -> None:
    """Wait for the lock for as long as a test may take; to test twice does no harm."""
    while time.monotonic() < until_s:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_STEP_S)
        except OSError:  # a file system without locks
            return
        else:
            return


@cache
def _release() -> str:
    """Name the onnxruntime installed: another one may crash where this one did not."""
    for name in ("onnxruntime-gpu", "onnxruntime"):
        with suppress(metadata.PackageNotFoundError):
            return f"{name} {metadata.version(name)}"
    return "unknown"
