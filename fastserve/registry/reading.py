"""The audit log of one model as it lies there, read without its lock beside writers that are at work."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from fastserve.errors import RegistryError
from fastserve.registry import chain, files, sidecar
from fastserve.registry.chain import MAX_LINE_BYTES, AuditLine, Head
from fastserve.registry.manifest import MANIFEST_FILE
from fastserve.registry.names import is_version
from fastserve.registry.state import after, changes_state, read_state

LOG_FILE = "audit.jsonl"
HEAD_FILE = ".audit-head"

OF_VERSIONS = frozenset({"publish", "gc", "profile"})
"""Events of one version that show in what lies on disk."""


class Damaged(RegistryError):
    """The log or its head is not what a writer, killed or not, could have left."""


def entries(directory: Path) -> Iterator[tuple[int, bytes, AuditLine | None]]:
    """Give every line that counts, the oldest first, without the lock: its number, its bytes, what it says.

    None for what is no audit line.

    Raises
    ------
    RegistryError
        The log, or what shows whether its last line counts, cannot be read; `Damaged` for a broken head.
    """
    head, at = read_head(directory), 0
    for number, data in raw_lines(directory):
        beyond = head is not None and at >= head.size
        at += len(data)
        if beyond and not data.endswith(b"\n"):
            return
        line = None
        with suppress(ValueError):
            line = chain.parse_line(data)
        if line is None or not beyond or _counts(directory, line):
            yield number, data, line


def lines(directory: Path, first: int = 1) -> Iterator[AuditLine]:
    """Give the lines from number `first` on that count and can be read; RegistryError as `entries`."""
    return (line for number, _, line in entries(directory) if line is not None and number >= first)


def _counts(directory: Path, line: AuditLine) -> bool:
    """Tell whether a line beyond the head counts: the head has come to know it, or its change is made."""
    newer = read_head(directory)
    return (newer is not None and newer.seq >= line.seq) or is_visible(directory, line)


def is_visible(directory: Path, line: AuditLine) -> bool:
    """Tell whether what a line says has become true; RegistryError when that cannot be read.

    One that says of nothing on disk is true once it is written.
    """
    details = line.details
    if line.event in OF_VERSIONS:
        version = details.get("version")
        if not is_version(version):
            return False  # some other hand wrote it
        if line.event == "profile":
            return sidecar.holds(directory, version, details.get("sha256"))
        if line.event == "publish":
            return is_published(directory / str(version), details.get("manifest_sha256"))
        return not (directory / str(version)).exists()
    if not changes_state(line.event):
        return True
    state = read_state(directory)
    return after(state, line.event, details) == state


def is_published(directory: Path, manifest_sha256: object) -> bool:
    """Tell whether a version is there, and is the one that was meant: other hands may take its number."""
    if manifest_sha256 is None:
        return directory.is_dir()
    try:
        return files.hash_file(directory / MANIFEST_FILE) == manifest_sha256
    except (OSError, RegistryError):
        return False


def read_head(directory: Path) -> Head | None:
    """Read what is kept apart of the log; None without it.

    Raises
    ------
    Damaged
        It is not what was written.
    RegistryError
        It cannot be read.
    """
    where = f"{directory.name}/{HEAD_FILE}"
    try:
        with files.open_regular(directory / HEAD_FILE) as reader:
            return chain.parse_head(reader.read(chain.MAX_HEAD_BYTES + 1))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RegistryError(f"{where} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Damaged(f"{where} is damaged") from error


def raw_lines(directory: Path) -> Iterator[tuple[int, bytes]]:
    """Give the lines of the log, numbered from 1, as bytes; one that is too long comes in pieces.

    RegistryError when it cannot be read.
    """
    try:
        with files.open_regular(directory / LOG_FILE) as reader:
            yield from enumerate(iter(partial(reader.readline, MAX_LINE_BYTES + 1), b""), 1)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RegistryError(f"{directory.name}/{LOG_FILE} cannot be read: {error.strerror}") from error


def following(head: Head, data: bytes) -> AuditLine | None:
    """Read a line if it is the one that comes after what the head knows."""
    try:
        line = chain.parse_line(data)
    except ValueError:
        return None
    return line if (line.seq, line.previous) == (head.seq + 1, head.sha256) else None


def no_head(directory: Path) -> str:
    """Say that there is a log whose head is gone."""
    return f"{directory.name}/{HEAD_FILE} is missing, and {LOG_FILE} is there"


def cut_off(directory: Path, head: Head, size: int) -> str:
    """Say that the log does not go as far as its head knows."""
    where = f"{directory.name}/{LOG_FILE}"
    return f"{where} has {size} bytes, but {HEAD_FILE} knows of {head.size}: its end was cut off"
