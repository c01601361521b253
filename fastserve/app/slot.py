"""A place for one process: it is started when it is due, and again when it has ended."""

import logging
import signal
import socket
from collections import Counter
from collections.abc import Callable

from fastserve.app.child import Child
from fastserve.app.running import Board

log = logging.getLogger("fastserve.app")

_BACKOFF_S = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
_STEADY_S = 60.0
_FAULTS = {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV}
_MOST_FAULTS = 3
_BARRED_S = 300.0
"""So long what was running at so many of a process's faults is kept from its successors."""
_WAIT_S = 1.0
"""Who connects while no process is there waits for the next one if it comes so soon."""


class Slot:
    """One process's place: its socket, the process, and how often it died lately."""

    def __init__(
        self,
        name: str,
        listener: socket.socket,
        work: Callable[["Slot", int], None],
        stop: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.listener = listener
        self.work = work
        """What the process does: runs in the child, with the slot and the descriptor of the lifeline."""
        self.stop = stop
        """The signal that asks it to end."""
        self.board = Board()
        """What the process's threads run."""
        self._faults: Counter[str] = Counter()
        self.process: Child | None = None
        self.started_s = 0.0
        self.deaths = 0
        self.start_at_s = 0.0

    def tend(self, now_s: float) -> None:
        """Start the process when it is due, and notice when it has ended."""
        if self.process is None:
            if now_s >= self.start_at_s:
                self._start(now_s)
        elif (code := self.process.poll()) is not None:
            self.process = None
            # What it ran at the end may have kept it busy for minutes.
            served_s = min(now_s, self.board.seen_s()) - self.started_s
            ran = self.board.take()
            meanwhile = f" while it ran {' and '.join(ran)}" if ran else ""
            self._died(now_s, f"ended with code {code}{meanwhile}", served_s)
            self._blame(now_s, -code, ran)

    def _start(self, now_s: float) -> None:
        self.started_s = now_s
        try:
            self.process = Child.start(lambda lifeline: self.work(self, lifeline))
        except OSError as error:
            self._died(now_s, f"cannot be started ({error.strerror})")

    def _died(self, now_s: float, how: str, served_s: float = 0.0) -> None:
        self.deaths = 1 if served_s > _STEADY_S else self.deaths + 1
        delay_s = _BACKOFF_S[min(self.deaths - 1, len(_BACKOFF_S) - 1)]
        log.error("%s %s; starting it again in %.0f s", self.name, how, delay_s)
        self.start_at_s = now_s + delay_s
        if delay_s <= _WAIT_S:
            self.listener.listen(socket.SOMAXCONN)  # a process that was told to stop has let nobody else in
        # Shut twice it would be so for ever: whom it lets in later reads an end at once.
        elif self.listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            # Refused, or sent to a sibling, until the next one listens: the port stays bound.
            self.listener.shutdown(socket.SHUT_RDWR)

    def _blame(self, now_s: float, number: int, ran: list[str]) -> None:
        """Keep from the next processes what alone ran as several in a row were ended by a fault of theirs."""
        if self.deaths == 1:
            self._faults.clear()
        if number in _FAULTS and len(ran) == 1:
            self._faults.update(ran)
            if self._faults[ran[0]] >= _MOST_FAULTS:
                self.board.barred[ran[0]] = now_s + _BARRED_S

    def fill(self, process: Child, now_s: float) -> None:
        """Take a process that runs already."""
        self.process = process
        self.started_s = now_s
