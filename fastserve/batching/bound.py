"""Runs that read the first rows of a ring in place, bound once for each number of rows."""

from fastserve.batching.ring import Ring
from fastserve.runtime.protocol import Bound, Runtime
from fastserve.types import Array

Prepared = tuple[Bound | None, list[Array]]
"""A run over some rows, where the runtime can bind it, and those rows."""

_MOST = 256


class BoundRuns:
    """Bound runs of one model, kept until its ring has other arrays."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._kept: dict[int, Prepared] = {}

    def get(self, ring: Ring, rows: int) -> Prepared:
        """Give ring rows [0, rows), one view per input, and the run that is bound to them."""
        try:
            return self._kept[rows]
        except KeyError:
            inputs = ring.consecutive(0, rows)
            if len(self._kept) >= _MOST:
                return None, inputs
            self._kept[rows] = prepared = self._runtime.bind(inputs), inputs
            return prepared

    def clear(self) -> None:
        """Let go of every run, and of the arrays that they hold."""
        self._kept.clear()
