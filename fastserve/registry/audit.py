"""The audit log of one model: a change and its line become true together, whatever dies in between.

A line is appended and synced, then the change is made visible by one rename, then `.audit-head` is replaced.
A line beyond the head belongs to a writer at work or killed: whether it counts, what it says decides.
"""

import logging
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fastserve.errors import RegistryError
from fastserve.registry import chain, files
from fastserve.registry.chain import MAX_LINE_BYTES, Head
from fastserve.registry.reading import (
    HEAD_FILE,
    LOG_FILE,
    Damaged,
    cut_off,
    entries,
    following,
    is_visible,
    no_head,
    raw_lines,
    read_head,
)

log = logging.getLogger("fastserve.registry")

LOCK_FILE = ".lock"

_NEW_HEAD = f"{HEAD_FILE}.new"
"""Always the same name, so that what a killed writer leaves is the next one's to replace."""


@contextmanager
def writing(directory: Path) -> Iterator["AuditLog"]:
    """Hold the lock of a model's directory, its log repaired, for reading state and committing changes.

    Raises
    ------
    OSError
        The directory cannot be written to.
    """
    with files.locked(directory / LOCK_FILE):
        descriptor = _open(directory / LOG_FILE)
        try:
            log = AuditLog(directory, descriptor)
            log.repair()
            yield log
        finally:
            os.close(descriptor)


class AuditLog:
    """The log while its lock is held. One thread at a time."""

    def __init__(self, directory: Path, descriptor: int) -> None:
        self._directory = directory
        self._descriptor = descriptor
        self._head = Head()

    def commit(
        self, event: str, details: Mapping[str, Any], apply: Callable[[], object] | None = None
    ) -> None:
        """Log a change and make it by `apply`; where that raises it has changed nothing, and no line stays.

        Raises
        ------
        RegistryError
            The line is too long or no JSON.
        OSError
            The directory cannot be written to.
        """
        if os.fstat(self._descriptor).st_size != self._head.size:
            self.repair()
        line = chain.new_line(self._head, event, details)
        data = line.to_bytes()
        head = chain.head_after(self._head, line, data)
        try:
            self._append(data)
            # Written before the change: a disk that is full by now must not leave a change without its head.
            self._prepare_head(head)
            if apply is not None:
                apply()
        except Exception:  # Ctrl-C, which is none, leaves it to the next writer, as a kill does
            self._cut()
            raise
        try:
            self._replace_head(head)
        except OSError as error:
            if apply is None:
                raise
            # The change is made, and its line counts; the next writer finds both.
            log.warning("%s/%s was not replaced: %s", self._directory.name, HEAD_FILE, error.strerror)

    def newest_version(self) -> int:
        """Give the highest version that was ever published here, gone or not; 0 without one."""
        return self._head.newest_version

    def certain_from(self) -> int:
        """Give the number of the line behind the last damage; 1 in a sound log. Before it may be gaps.

        RegistryError when the log cannot be read.
        """
        first, previous = 1, chain.START
        for number, data, line in entries(self._directory):
            if line is None:
                first = number + 1
            elif line.previous != previous or line.event == chain.BROKEN:
                first = number
            previous = chain.digest(data)
        return first

    def repair(self) -> None:
        """Settle what a killed writer left; damage is kept for all to see, and the log goes on behind it.

        Raises
        ------
        RegistryError
            The head, or whether a killed writer's line counts, cannot be read.
        """
        size = os.fstat(self._descriptor).st_size
        try:
            head = read_head(self._directory)
            if head is None:
                if size:
                    raise Damaged(no_head(self._directory))
                head = Head()
                # From now on a log without a head is one that somebody took the head from.
                self._prepare_head(head)
                self._replace_head(head)
            self._settle(head, size)
        except Damaged as problem:
            self._go_on(size, str(problem))

    def _settle(self, head: Head, size: int) -> None:
        """Take in, or cut off, the one line beyond the head; Damaged when no killed writer explains it."""
        where = f"{self._directory.name}/{LOG_FILE}"
        if size < head.size:
            raise Damaged(cut_off(self._directory, head, size))
        if head.size and chain.digest(_line_before(self._descriptor, head.size)) != head.sha256:
            raise Damaged(f"{where}: its last line is not the one that {HEAD_FILE} knows")
        self._head = head
        tail = os.pread(self._descriptor, MAX_LINE_BYTES + 1, head.size)
        if len(tail) > MAX_LINE_BYTES or b"\n" in tail[:-1]:
            raise Damaged(f"{where} goes on by more than one line beyond what {HEAD_FILE} knows")
        if not tail.endswith(b"\n"):
            if tail:
                self._cut()
            return
        line = following(head, tail)
        if line is None:
            raise Damaged(f"{where}: its last line does not follow the one that {HEAD_FILE} knows")
        if is_visible(self._directory, line):
            newer = chain.head_after(head, line, tail)
            self._prepare_head(newer)
            self._replace_head(newer)
        else:
            self._cut()

    def _go_on(self, size: int, problem: str) -> None:
        """Write a line that says what is wrong and follows what the head knew: the damage stays visible."""
        try:
            known = read_head(self._directory) or Head()
        except Damaged:
            known = Head()
        seq, newest = known.seq, known.newest_version
        for _, data in raw_lines(self._directory):
            with suppress(ValueError):
                line = chain.parse_line(data)
                seq = max(seq, line.seq)
                newest = max(newest, chain.head_after(Head(), line, data).newest_version)
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            _write_all(self._descriptor, b"\n")
        self._head = Head(seq, known.sha256, os.fstat(self._descriptor).st_size, newest)
        self.commit(chain.BROKEN, {"problem": problem[:2048]})

    def _append(self, data: bytes) -> None:
        files.step(f"{LOG_FILE}: opened")
        _write_all(self._descriptor, data)
        files.step(f"{LOG_FILE}: written")
        os.fsync(self._descriptor)
        files.step(f"{LOG_FILE}: synced")

    def _cut(self) -> None:
        """Take back what was appended; where even that fails, the next writer does it."""
        with suppress(OSError):
            (self._directory / _NEW_HEAD).unlink(missing_ok=True)
            os.ftruncate(self._descriptor, self._head.size)
            files.step(f"{LOG_FILE}: cut")
            os.fsync(self._descriptor)

    def _prepare_head(self, head: Head) -> None:
        new = self._directory / _NEW_HEAD
        new.unlink(missing_ok=True)  # never written into: a link of that name leads to somebody's file
        files.write_synced(new, head.to_bytes(), self._directory / HEAD_FILE)

    def _replace_head(self, head: Head) -> None:
        (self._directory / _NEW_HEAD).rename(self._directory / HEAD_FILE)
        self._head = head
        files.step(f"{HEAD_FILE}: renamed")
        files.sync_directory(self._directory)
        files.step(f"{HEAD_FILE}: durable")


def _open(path: Path) -> int:
    """Open a log for reading and appending, made if need be; never a link, a pipe or a device."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RegistryError(f"{path.parent.name}/{path.name} is not a regular file")
    return descriptor


def _write_all(descriptor: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += os.write(descriptor, data[written:])


def _line_before(descriptor: int, end: int) -> bytes:
    """Give the line that ends at a position, its end of line included, without reading what is before it."""
    start = max(0, end - MAX_LINE_BYTES - 1)
    data = os.pread(descriptor, end - start, start)
    return data[data.rfind(b"\n", 0, len(data) - 1) + 1 :]
