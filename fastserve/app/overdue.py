"""Stops runs that take longer than they may: a loop as long as the request says holds its thread for ever."""

import logging
import os
import threading
import time
from collections.abc import Callable
from weakref import WeakValueDictionary

from fastserve.app.running import Board, Noted

log = logging.getLogger("fastserve.app")

_LOOK_S = 1.0
_GRACE_S = 10.0
"""A run ends at its next operator; one that is inside a single operator for so long will not."""


class Overdue:
    """Looks at a board once a second, on a thread of the process whose runs are on it.

    A run past its limit is interrupted. One that does not end then ends the process, as a fault does, and
    whoever started that starts it again.
    """

    def __init__(self, board: Board, end: Callable[[str], None] | None = None) -> None:
        self.board = board
        self._end = end or self._abort
        self._known: WeakValueDictionary[str, Noted] = WeakValueDictionary()
        self._told: set[tuple[str, float]] = set()
        """Runs that were interrupted, by label and begin."""
        self._stopped = threading.Event()

    def add(self, noted: Noted) -> None:
        """Look after the runs of this one from now on; any thread."""
        self._known[noted.label] = noted

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._watch, name="fastserve-overdue", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def look(self, now_s: float) -> None:
        """Deal with what is overdue at this time of `time.monotonic`."""
        told = set()
        for run in self.board.running(now_s):
            label, since_s = run
            noted = self._known.get(label)
            if noted is None or now_s < since_s + noted.limit_s:
                continue
            told.add(run)
            if run not in self._told:
                log.error("%s has run for %g s, longer than it may, and is stopped", label, noted.limit_s)
                noted.interrupt()
            elif now_s >= since_s + noted.limit_s + _GRACE_S:
                log.critical("%s cannot be stopped: process %d ends", label, os.getpid())
                self._end(label)
        self._told = told

    def _watch(self) -> None:
        while not self._stopped.wait(_LOOK_S):
            self.look(time.monotonic())

    def _abort(self, label: str) -> None:
        logging.shutdown()
        self.board.blame(label)
        os.abort()
