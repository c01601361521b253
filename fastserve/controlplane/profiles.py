"""Profiles by digest: stored once, parsed when needed, the last used kept in memory."""

import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, TypeVar

from sqlalchemy import Connection, bindparam, select

from fastserve.controlplane.errors import ProfileUnavailable
from fastserve.controlplane.rows import in_parts
from fastserve.controlplane.tables import profiles
from fastserve.errors import InvalidProfile
from fastserve.monitoring.profile import Profile, Sketch, read_profile

T = TypeVar("T")

_MAX_KEPT = 256
_MAX_KEPT_FEATURES = 262_144

_KNOWN = select(profiles.c.digest).where(profiles.c.digest.in_(bindparam("digests", expanding=True)))


class _LastUsed(Generic[T]):
    """Values by digest, those used last: bounded in number and in features."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._features = 0

    def get(self, digest: str) -> T | None:
        found = self._kept.get(digest)
        if found is None:
            return None
        self._kept.move_to_end(digest)
        return found[0]

    def put(self, digest: str, value: T, features: int) -> None:
        self._features += features - self._kept.pop(digest, (value, 0))[1]
        self._kept[digest] = (value, features)
        while len(self._kept) > 1 and (len(self._kept) > _MAX_KEPT or self._features > _MAX_KEPT_FEATURES):
            self._features -= self._kept.popitem(last=False)[1][1]


class Profiles:
    """Parsed profiles of the database, those used last. Safe from any thread."""

    def __init__(self) -> None:
        self._kept: _LastUsed[Profile] = _LastUsed()
        self._lock = threading.Lock()

    def get(self, connection: Connection, digest: str) -> Profile:
        """Give a profile; ProfileUnavailable when the database has none of this digest, or a damaged one."""
        with self._lock:
            found = self._kept.get(digest)
        if found is not None:
            return found
        content = connection.scalar(select(profiles.c.content).where(profiles.c.digest == digest))
        if content is None:
            raise ProfileUnavailable(digest, "missing")
        try:
            profile = read_profile(zlib.decompress(content))
        except (zlib.error, InvalidProfile) as error:
            raise ProfileUnavailable(digest, f"damaged ({error})") from error
        self.keep(digest, profile)
        return profile

    def keep(self, digest: str, profile: Profile) -> None:
        """Remember a profile that is in the database."""
        with self._lock:
            self._kept.put(digest, profile, _width(profile))


class Sketches:
    """Empty sketches to merge states in, one set a profile, used again and again. One thread only."""

    def __init__(self) -> None:
        self._kept: _LastUsed[list[Sketch]] = _LastUsed()

    def of(self, digest: str, profile: Profile) -> list[Sketch]:
        """Give an empty sketch for each tensor; what was counted in them before is gone."""
        found = self._kept.get(digest)
        if found is None:
            found = [tensor.sketch() for tensor in profile.tensors]
            self._kept.put(digest, found, _width(profile))
        for sketch in found:
            sketch.reset()
        return found


def known_digests(connection: Connection, digests: Iterable[str]) -> set[str]:
    """Tell which of these profiles the database has."""
    found: set[str] = set()
    for some in in_parts(sorted(digests)):
        found |= set(connection.scalars(_KNOWN, {"digests": some}))
    return found


def _width(profile: Profile) -> int:
    return sum(len(tensor.features) for tensor in profile.tensors)
