"""What lies in a version's directory now, whatever a manifest says of it."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

Stamp = tuple[tuple[str, int, int, int], ...]
"""(name, bytes, modified, inode changed) of files, sorted. Nobody sets the last. Inode numbers are left out:
mounted object stores and the like may give a file at rest another one."""


def stamp(directory: Path | str, most: int | None = None) -> Stamp:
    """Describe the files, `most` of them, so that any change shows; empty where there are none."""
    files = islice(regular_files(directory), most)
    return tuple(sorted((name, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in files))


def size_bytes(directory: Path | str) -> int:
    """Give the size of the files together."""
    return sum(status.st_size for _, status in regular_files(directory))


def regular_files(directory: Path | str) -> Iterator[tuple[str, os.stat_result]]:
    """Give name and status of each file, links to files too; none where the directory cannot be read."""
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with suppress(OSError):  # gone, or a link that leads nowhere
                status = entry.stat()
                if stat.S_ISREG(status.st_mode):
                    yield entry.name, status
