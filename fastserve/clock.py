"""The one source of time, so that every room can be driven by hand in tests."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""A function without arguments that gives nanoseconds on a clock that never goes back."""

NS_PER_S = 1_000_000_000

WallClock = Callable[[], int]
"""A function without arguments that gives milliseconds since the epoch; it may go back."""

monotonic_ns: Clock = time.monotonic_ns


def wall_ms() -> int:
    """Give the time of day."""
    return time.time_ns() // 1_000_000


class ManualClock:
    """A clock that moves only when told to. Not thread-safe."""

    def __init__(self, now_ns: int = 0) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        """Nanoseconds now."""
        return self.now_ns

    def advance(self, *, ns: int = 0, us: int = 0, ms: int = 0) -> None:
        """Move forward by the sum of the given amounts."""
        self.now_ns += ns + us * 1_000 + ms * 1_000_000
