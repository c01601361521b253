"""Whether an audit log was tampered with, or a version that it knows.

Read line by line, without the lock, beside writers that are at work.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from fastserve.registry import chain, reading
from fastserve.registry.chain import AuditLine, Head
from fastserve.registry.manifest import MANIFEST_FILE
from fastserve.registry.names import is_version

_MOST = 20
"""Problems that are told of one log."""
_LOOKS = 5


def check(directory: Path) -> list[str]:
    """Say what is wrong with the log of a model; empty when every line is there as it was written.

    Raises
    ------
    RegistryError
        It cannot be read.
    """
    problems: list[str] = []
    for _ in range(_LOOKS):
        before = _head(directory)
        problems = _look(directory, *before)
        # A writer that came in between explains what does not fit, so look again.
        if not problems or _head(directory) == before:
            break
    return problems


def replaced(directory: Path, versions: Iterable[int]) -> dict[int, str]:
    """Say which of these versions have not the manifest that they were published with, by the audit log.

    A version whose publishing no line tells, or none that can be read, is left alone.

    Raises
    ------
    RegistryError
        The log cannot be read.
    """
    published = {
        line.details.get("version"): line.details.get("manifest_sha256")
        for line in reading.lines(directory)
        if line.event == "publish" and is_version(line.details.get("version"))
    }
    return {
        version: f"{directory.name}/{version} has not the {MANIFEST_FILE} that the audit log says it was "
        "published with: a version is not replaced by hand; publish the file instead"
        for version in versions
        if version in published and not reading.is_published(directory / str(version), published[version])
    }


def _head(directory: Path) -> tuple[Head | None, str]:
    try:
        return reading.read_head(directory), ""
    except reading.Damaged as problem:
        return None, str(problem)


def _look(directory: Path, head: Head | None, damage: str) -> list[str]:
    problems = [damage] if damage else []
    last = Head()
    beyond: list[bytes] = []
    for number, data in reading.raw_lines(directory):
        if head is not None and last.size >= head.size:
            beyond.append(data)
            if len(beyond) > 1:
                break
            continue
        line, wrong = _line(directory, number, last, data)
        problems += wrong
        last = Head(line.seq if line else last.seq + 1, chain.digest(data), last.size + len(data))
        if len(problems) >= _MOST:
            return [*problems, f"{directory.name}/{reading.LOG_FILE}: and so on"]
    if head is None:
        if last.size and not damage:
            problems.append(reading.no_head(directory))
        return problems
    return [*problems, *_ending(directory, head, last, beyond)]


def _line(directory: Path, number: int, last: Head, data: bytes) -> tuple[AuditLine | None, list[str]]:
    where = f"{directory.name}/{reading.LOG_FILE}: line {number}"
    try:
        line = chain.parse_line(data)
    except ValueError:
        return None, [f"{where} is not an audit line"]
    problems = []
    if line.previous != last.sha256:
        problems.append(
            f"{where} does not continue the line before it: one of them was edited, moved or removed"
        )
    elif line.seq != last.seq + 1:
        problems.append(f"{where} has number {line.seq} where {last.seq + 1} is next")
    if line.event == chain.BROKEN:
        problems.append(f"{where} says what was found at {line.at}: {line.details.get('problem')}")
    return line, problems


def _ending(directory: Path, head: Head, last: Head, beyond: list[bytes]) -> Iterator[str]:
    """Compare the end of the log with what its head knows."""
    where = f"{directory.name}/{reading.LOG_FILE}"
    if last.size < head.size:
        yield reading.cut_off(directory, head, last.size)
    elif (last.size, last.seq, last.sha256) != (head.size, head.seq, head.sha256):
        yield f"{where}: its last line is not the one that {reading.HEAD_FILE} knows"
    elif len(beyond) > 1 and _head(directory)[0] == head:  # else they are of writers at work
        yield f"{where} goes on by more than one line beyond what {reading.HEAD_FILE} knows"
    elif len(beyond) == 1 and beyond[0].endswith(b"\n") and reading.following(head, beyond[0]) is None:
        yield f"{where}: its last line does not follow the one that {reading.HEAD_FILE} knows"
