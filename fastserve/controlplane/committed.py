"""What the database holds, as far as this process has read or written it: need not be read again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fastserve.controlplane.fleet import Place, Version, VersionTotals

_MAX_WINDOWS = 4_096
_MAX_BYTES = 64 * 2**20


class Key(NamedTuple):
    """Whose windows: of the rows of one version that were counted against one profile."""

    model: str
    version: int
    profile: str
    """Its digest, or empty for rows without a reference."""


@dataclass(slots=True)
class Window:
    """One window and what is to be added to it."""

    level: str
    start_ms: int
    end_ms: int
    rows: int = 0
    rolled: bool = False
    stored: bytes = b""
    """States as the database has them."""
    parts: list[bytes | Sequence[bytes]] = field(default_factory=list)
    """States as they came, or as another window has them stored."""
    changed: bool = False

    def put(self, rows: int, states: bytes | Sequence[bytes]) -> None:
        """Add rows."""
        self.rows += rows
        self.changed = True
        if states:
            self.parts.append(states)

    def written(self, state: bytes) -> None:
        """Everything added is in the database now, if the transaction holds."""
        self.stored, self.parts, self.changed = state, [], False


@dataclass(slots=True)
class Committed:
    """Rows of the database in memory. Right only while nobody else writes, and after no commit that failed.

    One thread only. A transaction changes it as it goes, so that it has to be cleared when that fails.
    """

    numbers: dict[str, int] = field(default_factory=dict)
    """Of the last snapshot that was counted, by incarnation."""
    places: dict[Place, tuple[str, float, float, int]] = field(default_factory=dict)
    """Incarnation, processor seconds of those before it and its own, when it was last heard of, in ms."""
    profiles: set[str] = field(default_factory=set)
    """Digests."""
    totals: dict[Version, VersionTotals] = field(default_factory=dict)
    """Shown to others too: copied before anything is added."""
    by_time: dict[tuple[Key, str, int], Window | None] = field(default_factory=dict)
    """By level and start; None where the database has no such window."""
    by_count: dict[Key, list[Window]] = field(default_factory=dict)
    """The newest last."""

    def clear(self) -> None:
        """Forget everything."""
        for one in (self.numbers, self.places, self.profiles, self.totals, self.by_time, self.by_count):
            one.clear()

    def trim(self) -> None:
        """Forget everything when it has become much: whoever needs it reads it again."""
        held = [one for one in self.by_time.values() if one is not None]
        held += [one for each in self.by_count.values() for one in each]
        if len(held) > _MAX_WINDOWS or sum(len(one.stored) for one in held) > _MAX_BYTES:
            self.clear()
