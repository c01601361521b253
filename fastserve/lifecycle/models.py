"""What the manager remembers of one model: the wish, a state per version, and where requests go."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from fastserve.lifecycle.policy import View
from fastserve.lifecycle.states import VersionState
from fastserve.lifecycle.wishes import NOWHERE, Route, Wish, route, wished

H = TypeVar("H")

NEVER_NS = 2**63 - 1

_REMEMBERED = 8
_GONE = "its directory is gone, or it is archived; it serves from memory until another version is READY"
_ENDED = (VersionState.UNKNOWN, VersionState.UNAVAILABLE)


@dataclass(slots=True)
class Entry(Generic[H]):
    """One version."""

    state: VersionState = VersionState.UNKNOWN
    reason: str = ""
    failures: int = 0
    """Loads that failed and withdrawals since the last wish for this very version."""
    due_ns: int = 0
    """When it may be tried again, on the manager's clock."""
    fits: bool = True
    held: H | None = None
    """What serves it while READY."""


@dataclass(slots=True)
class Model(Generic[H]):
    """One model; `wish` is None when the registry has it no more."""

    wish: Wish | None = None
    wished: list[int] = field(default_factory=list)
    """Versions that should be READY, the most urgent first."""
    entries: dict[int, Entry[H]] = field(default_factory=dict)
    route: Route = NOWHERE

    def take_in(self, wish: Wish | None) -> None:
        """Take in what the registry holds now; what is wished for anew is tried at once, whatever it did."""
        before, self.wish = self.wish, wish
        if before is None or wish is None:
            return
        moved = {version for alias, version in wish.aliases.items() if before.aliases.get(alias) != version}
        self.forgive(set(self.entries) if wish.loaded and not before.loaded else moved)

    def choose(self, newest: int) -> None:
        """Work out which versions should be READY, from the wish and from what has failed by now."""
        self.wished = [] if self.wish is None else wished(self.wish, newest, self.failed())
        for version in self.wished:
            self.entries.setdefault(version, Entry())

    def forgive(self, versions: set[int]) -> None:
        """Try these at once, or when they are drained, whatever they did before."""
        for version in versions & set(self.entries):
            entry = self.entries[version]
            if entry.state in (VersionState.UNAVAILABLE, VersionState.UNLOADING):
                entry.failures = entry.due_ns = 0
            if entry.state is VersionState.UNAVAILABLE:
                entry.state = VersionState.UNKNOWN

    def failed(self) -> set[int]:
        """Versions that cannot serve, as far as is known."""
        return {
            version
            for version, entry in self.entries.items()
            if entry.failures and entry.state is not VersionState.READY
        }

    def ready(self) -> set[int]:
        """Versions that serve."""
        return {version for version, entry in self.entries.items() if entry.state is VersionState.READY}

    def surplus(self) -> set[int]:
        """Versions that hold memory although nobody wishes for them."""
        holding = (VersionState.READY, VersionState.UNLOADING)
        return {v for v, entry in self.entries.items() if entry.state in holding and v not in self.wished}

    def decide_route(self, fallback: bool) -> Route:
        """Where requests should go now."""
        if self.wish is None:
            return NOWHERE
        return route(self.wish, self.ready(), self.failed(), self.route, fallback=fallback)

    def views(self, now_ns: int) -> list[View]:
        """The snapshot that the policy decides on."""
        answering = self.route.targets()
        order = [*self.wished, *sorted(self.entries.keys() - set(self.wished))]
        return [
            View(
                version,
                entry.state,
                wished=version in self.wished,
                answering=version in answering,
                due=entry.due_ns <= now_ns,
                fits=entry.fits,
            )
            for version in order
            for entry in (self.entries[version],)
        ]

    def reason(self, version: int, entry: Entry[H]) -> str:
        """Say what a person should know of a version besides its state."""
        if entry.state is VersionState.READY:
            gone = self.wish is None or version not in self.wish.versions
            return _GONE if gone else ""
        return entry.reason

    def forget(self) -> None:
        """Keep few of the versions that ended and that nobody wishes for."""
        ended = [
            version
            for version, entry in self.entries.items()
            if version not in self.wished and entry.state in _ENDED
        ]
        present = set(self.wish.versions[: 4 * _REMEMBERED]) if self.wish is not None else set()
        kept = [v for v in ended if self.entries[v].reason and v in present][-_REMEMBERED:]
        for version in ended:
            if version not in kept:
                del self.entries[version]
