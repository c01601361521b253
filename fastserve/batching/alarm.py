"""The one timer of a batcher."""

import asyncio
from collections.abc import Callable

from fastserve.clock import Clock
from fastserve_core.batching import NO_DEADLINE
from fastserve_core.lane import Lane

_NEVER = -(2**63)


class Alarm:
    """Rings at the first deadline while a batch runs, at the end of the wait while one is held back.

    A later request whose deadline is before `lane.alarm_ns` wakes the batcher.
    """

    def __init__(self, lane: Lane, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._lane = lane
        self._loop = loop
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None

    def set(self, deadline_ns: int, at_ns: int, callback: Callable[[], None]) -> None:
        """Call back at `at_ns`, and have the batcher woken by deadlines before `deadline_ns`."""
        self.clear()
        self._lane.alarm_ns = deadline_ns
        if at_ns != NO_DEADLINE:
            self._timer = self._loop.call_later(max(0, at_ns - self._clock()) * 1e-9, callback)

    def clear(self) -> bool:
        """Stop the timer; tell whether it was set."""
        self._lane.alarm_ns = _NEVER
        if self._timer is None:
            return False
        self._timer.cancel()
        self._timer = None
        return True
