"""Runs that read the first rows of a ring in place, bound once for each number of rows."""

from collections.abc import Callable

from fastserve.batching.ring import Ring
from fastserve.runtime.protocol import Runtime
from fastserve.types import Array

Run = Callable[[], list[Array]]
"""Runs the model on arrays that it already has."""

Bound = tuple[Run | None, list[Array]]
"""A run over some rows, where the runtime can bind it, and those rows."""

_MOST = 256


class BoundRuns:
    """Bound runs of one model, kept until its ring has other arrays."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._kept: dict[int, Bound] = {}

    def get(self, ring: Ring, rows: int) -> Bound:
        """Give ring rows [0, rows), one view per input, and the run that is bound to them."""
        try:
            return self._kept[rows]
        except KeyError:
            inputs = ring.consecutive(0, rows)
            if len(self._kept) >= _MOST:
                return None, inputs
            self._kept[rows] = bound = self._runtime.bind(inputs), inputs
            return bound

    def clear(self) -> None:
        """Let go of every run, and of the arrays that they hold."""
        self._kept.clear()
