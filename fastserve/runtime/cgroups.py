"""The control groups that this process is in, of both kinds that Linux has."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIPS = Path("/proc/self/cgroup")


def groups(controller: str, root: Path, memberships: Path) -> Iterator[tuple[int, Path]]:
    """Give every directory that may limit what a controller gives, and its version of cgroup: 1 or 2.

    From this process's own up to the root: a parent's limit holds for its children.
    """
    for controllers, path in _memberships(memberships):
        if controllers == "":
            for mount in (root, root / "unified"):
                yield from ((2, directory) for directory in _upwards(mount, path))
        elif controller in controllers.split(","):
            for mount in (root / controllers, root / controller):
                yield from ((1, directory) for directory in _upwards(mount, path))


def read(path: Path) -> str:
    """Read one of the kernel's files; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _memberships(path: Path) -> Iterator[tuple[str, str]]:
    """Read /proc/self/cgroup: lines of `id:controllers:path`, controllers empty for cgroup v2."""
    for line in read(path).splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            yield parts[1], parts[2]


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """Give the cgroup's directory and its parents; in a container the mount itself is often ours."""
    own = Path(path.lstrip("/"))
    for group in (own, *own.parents):
        yield mount / group
