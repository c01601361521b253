"""Keeps the distances on `/metrics` fresh: compares versions again when something new has come."""

import math
from collections.abc import Callable

from fastserve.controlplane.fleet import Fleet, Version
from fastserve.controlplane.options import ControlOptions
from fastserve.controlplane.spans import span_until
from fastserve.controlplane.summary import Summaries
from fastserve.monitoring.comparing import FeatureComparison

_AGAIN_S = 15.0
"""Between two comparisons of a version: each reads the windows of an hour, and nobody looks more often."""
_STALE_S = 60.0
"""After so long a version is compared again without anything new: old rows leave the window."""


class DriftWatch:
    """Decides which versions to compare again. Event-loop thread only, but for `compare`.

    Parameters
    ----------
    now_s
        A clock that never goes back.
    """

    def __init__(
        self, summaries: Summaries, fleet: Fleet, options: ControlOptions, now_s: Callable[[], float]
    ) -> None:
        self._summaries = summaries
        self._fleet = fleet
        self._options = options
        self._now_s = now_s
        self._compared_s: dict[Version, float] = {}
        self._watched: set[Version] = set()
        """With new rows since they were compared."""

    def due(self, watched: set[Version]) -> list[Version]:
        """List versions to compare now; forgets those that no worker has any more.

        Parameters
        ----------
        watched
            With new rows since the last call.
        """
        watching = {version for version, one in self._fleet.held() if one.profile}
        for gone in self._fleet.drift.keys() - watching:
            del self._fleet.drift[gone]
        self._compared_s = {one: at_s for one, at_s in self._compared_s.items() if one in watching}
        self._watched = (self._watched | watched) & watching
        return sorted(one for one in watching if self._is_due(one))

    def _is_due(self, version: Version) -> bool:
        wait_s = _STALE_S
        if version in self._watched:
            wait_s = _AGAIN_S if version in self._fleet.drift else 0.0
        return self._now_s() - self._compared_s.get(version, -math.inf) >= wait_s

    def compare(self, version: Version, wall_ms: int) -> list[FeatureComparison]:
        """Compare a version's last rows with its reference; nothing without any. In any thread.

        Those of the window, from the beginning of the minute, hour or day that it begins in, as in reports.

        Raises
        ------
        NotWatched, StoreUnavailable
        """
        span = span_until(wall_ms, int(self._options.drift_window_s * 1_000), self._options)
        live = self._summaries.live(*version, span.start_ms, span.end_ms)
        found = live.features() if live.rows else []
        for one in found:
            _ = one.excess  # of a thousand categories half a millisecond, which no scrape waits for
        return found

    def show(self, version: Version, found: list[FeatureComparison]) -> None:
        """Put a comparison where `/metrics` finds it, or take it away."""
        self._compared_s[version] = self._now_s()
        self._watched.discard(version)
        if found:
            self._fleet.drift[version] = found
        else:
            self._fleet.drift.pop(version, None)
