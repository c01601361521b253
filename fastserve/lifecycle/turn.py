"""Taking turns at what only one thread should do at a time, and the time that this takes."""

import threading
from typing import Self

from fastserve.clock import monotonic_ns


class Turn:
    """One thread's turn: it can be left for something slow, and taken again.

    Parameters
    ----------
    lock
        What those who take turns share.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self.waited_ns = 0
        """Nanoseconds of waiting for others, so far."""
        self._lock = lock
        self._mine = False

    def take(self) -> None:
        """Wait for the turn."""
        began_ns = monotonic_ns()
        self._lock.acquire()
        self._mine = True
        self.waited_ns += monotonic_ns() - began_ns

    def leave(self) -> None:
        """Let others go on; without a turn, does nothing."""
        if self._mine:
            self._mine = False
            self._lock.release()

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
