"""Memory that a burst of large requests needed goes back to the system once the burst is over."""

from collections.abc import Callable

from fastserve.monitoring.process import resident_bytes
from fastserve.runtime.memory import give_back

_SPARE_BYTES = 32 * 2**20
_PATIENCE_S = 5.0


class Trimming:
    """Watches what the process holds, and trims when that stays well over the least it has held.

    The C library keeps freed memory for its next use: after a few bodies of 60 MB it would keep 220 MB for
    good, whether or not another such body ever comes. A trim of those takes 25 ms, and releases the GIL.
    """

    def __init__(
        self, resident: Callable[[], int] = resident_bytes, trim: Callable[[], None] = give_back
    ) -> None:
        self._resident = resident
        self._trim = trim
        self._least_bytes = resident()
        self._over_since_s: float | None = None

    def due(self, now_s: float) -> bool:
        """Look, about once a second: whether `trim` should be called now."""
        held_bytes = self._resident()
        self._least_bytes = min(self._least_bytes, held_bytes)
        if held_bytes < self._least_bytes + _SPARE_BYTES:
            self._over_since_s = None
        elif self._over_since_s is None:
            self._over_since_s = now_s
        return self._over_since_s is not None and now_s - self._over_since_s >= _PATIENCE_S

    def trim(self) -> None:
        """Give back what is free; what remains is needed, and is what later looks compare with."""
        self._trim()
        self._least_bytes = self._resident()
        self._over_since_s = None
