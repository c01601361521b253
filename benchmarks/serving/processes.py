"""What /proc says of a process and its children: memory held and processor time used."""

import os
from collections.abc import Iterator
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> Iterator[int]:
    """`pid` and everything it started that is still alive."""
    yield pid
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return
    for child in children:
        yield from family(child)


def rss_bytes(pid: int) -> int:
    """Resident memory of the family together; pages that two processes share count twice."""
    return sum(_status_kib(member) * 1024 for member in family(pid))


def cpu_s(pid: int) -> float:
    """Processor time, user and system, that the living members of the family have used."""
    return sum(_ticks(member) for member in family(pid)) / TICKS_PER_S


def _status_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


def _ticks(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # The command's name, in brackets, may hold spaces; utime and stime are fields 14 and 15.
    fields = text.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
