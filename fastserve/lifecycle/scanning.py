"""From the registry directory to wishes: what is there, whole, and not put away.

A version counts when the files that its manifest lists are there in full size. Without a manifest it counts
when it has not changed for a while: a copy in progress looks like a version too.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from fastserve.clock import NS_PER_S, Clock, monotonic_ns
from fastserve.errors import FastserveError
from fastserve.lifecycle.directory import Stamp, stamp
from fastserve.lifecycle.options import LifecycleOptions
from fastserve.lifecycle.wishes import Wish
from fastserve.registry import Registry

log = logging.getLogger("fastserve.lifecycle")

_MAX_FILES = 1_000
_GRAIN_NS = 2 * NS_PER_S
"""A directory may change again within one tick of its file system's clock without looking different."""
_START_NS = 60 * NS_PER_S
"""So long after its start a server expects what is being written; longer, it may never come to rest."""
_UNREAD = Wish((), problem="it has not been read yet")

Stamps = dict[int, tuple[Stamp, int]]
"""Versions that may still be changing: their files, and since when they look like this."""


@dataclass(slots=True)
class _Known:
    """What the last look at one model found; before the first one, nothing."""

    fingerprint: tuple[object, ...] = ()
    seen_ns: int = 0
    """When it looked like this for the first time."""
    wish: Wish = _UNREAD
    settled: set[int] = field(default_factory=set)
    stamps: Stamps = field(default_factory=dict)
    waiting: list[Path] = field(default_factory=list)
    """Directories without a model file yet: what happens in them does not show in the model's."""
    problem: str = ""


class Scanner:
    """Looks at a registry again and again. One thread at a time."""

    def __init__(
        self,
        registry: Registry,
        options: LifecycleOptions,
        clock: Clock = monotonic_ns,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._checked = max(options.versions, 16)
        self._settle_ns = int(options.settle_s * NS_PER_S)
        self._clock = clock
        self._wall_s = wall_s
        self._began_ns = clock()
        self._known: dict[str, _Known] = {}
        self._empty: list[Path] = []
        """Directories that may become models'."""

    def scan(self) -> dict[str, Wish]:
        """Look at every model; unchanged ones cost two or three system calls.

        Raises
        ------
        RegistryError
            When the registry itself cannot be read.
        """
        names = set(self._registry.models())
        empty = (name for name in self._registry.directories() if name not in names)
        self._empty = [self._registry.path / name for name in empty]
        for name in self._known.keys() - names:
            # Its versions are gone, its directory is not: still a model, and its last version serves on.
            if (self._registry.path / name).is_dir():
                names.add(name)
            else:
                del self._known[name]
        return {name: self._look(name) for name in sorted(names)}

    def unsettled(self) -> bool:
        """Tell whether some version may count soon, without any further change on disk."""
        return any(known.stamps for known in self._known.values())

    def waiting(self) -> list[Path]:
        """Directories that a version may appear in, beside those of the models."""
        return self._empty + [path for known in self._known.values() for path in known.waiting]

    def _look(self, name: str) -> Wish:
        known, now_ns = self._known.setdefault(name, _Known()), self._clock()
        try:
            # A directory that waits since the last look changes the fingerprint: it is looked at again.
            fingerprint = (self._registry.fingerprint(name), *map(_changed_ns, known.waiting))
            same_since_ns = known.seen_ns if known.fingerprint == fingerprint else now_ns
            if not known.stamps and now_ns - same_since_ns > _GRAIN_NS:
                return known.wish
            return self._renew(name, known, fingerprint, same_since_ns)
        except FastserveError as error:
            return _stays(name, known, str(error))

    def _renew(self, name: str, before: _Known, fingerprint: tuple[object, ...], seen_ns: int) -> Wish:
        state = self._registry.state(name)
        places = self._registry.places(name)
        versions = sorted(
            (v for v, whole in places.items() if whole and v not in state.archived), reverse=True
        )
        settled, stamps = before.settled & set(versions), before.stamps
        matter = {*versions[: self._checked], *(set(state.aliases.values()) & set(versions))}
        unsettled = {v for v in matter - settled if not self._settles(name, v, stamps)}
        # An alias comes to a version that is still being written when that one is whole.
        moved = {alias for alias, version in state.aliases.items() if version in unsettled}
        stay = {alias: before.wish.aliases[alias] for alias in moved & before.wish.aliases.keys()}
        whole = tuple(v for v in versions if v not in unsettled)
        starts = self._clock() - self._began_ns < _START_NS
        coming = starts and bool(unsettled) and not whole
        wish = Wish(whole, {**state.aliases, **stay}, state.loaded, coming)
        settled |= matter - unsettled
        stamps = {v: stamp for v, stamp in stamps.items() if v in unsettled}
        waiting = [self._registry.path / name / str(v) for v, is_whole in places.items() if not is_whole]
        self._known[name] = _Known(fingerprint, seen_ns, wish, settled, stamps, waiting)
        return wish

    def _settles(self, name: str, version: int, stamps: Stamps) -> bool:
        """Tell whether a version is whole: by its manifest, or because nothing happens to it."""
        files = stamp(f"{self._registry.path}/{name}/{version}", _MAX_FILES)
        # What has been lying there for a while is as whole as it will be: loading it will say what is wrong.
        if version not in stamps and self._is_old(files):
            return True
        with suppress(OSError, FastserveError):
            if self._registry.is_complete(name, version):
                return True
        return self._unchanged(version, files, stamps)

    def _is_old(self, files: Stamp) -> bool:
        """Tell by its inodes whether a version has been lying there for a while, if clocks agree."""
        age_ns = self._wall_s() * NS_PER_S - max((changed for *_, changed in files), default=0)
        return bool(files) and age_ns > max(self._settle_ns, _GRAIN_NS)

    def _unchanged(self, version: int, files: Stamp, stamps: Stamps) -> bool:
        now_ns = self._clock()
        last, since_ns = stamps.get(version, (None, now_ns))
        if last != files:
            since_ns = now_ns
        stamps[version] = (files, since_ns)
        return bool(files) and now_ns - since_ns >= self._settle_ns


def _stays(name: str, known: _Known, problem: str) -> Wish:
    """Something of the model cannot be read: what was wished for before stays wished for."""
    if known.problem != problem:
        known.problem = problem
        stays = "nothing of it is served" if known.wish.problem else "what it served before stays"
        log.error("model %s: %s; %s", name, problem, stays)
    known.fingerprint = ()
    known.wish = replace(known.wish, coming=False, problem=problem if known.wish.problem else "")
    return known.wish


def _changed_ns(directory: Path) -> int | None:
    try:
        return directory.stat().st_mtime_ns
    except OSError:
        return None
