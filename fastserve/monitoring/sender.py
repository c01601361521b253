"""Sends snapshots to the control plane from a thread of its own; who serves never waits for it."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastserve.log import Seldom
from fastserve.monitoring.outbox import Identity, Outbox, Report

if TYPE_CHECKING:
    from fastserve.monitoring.transport import Link

log = logging.getLogger("fastserve.monitoring")

_RETRY_S = 1.0
_LAST_RETRY_S = 0.1
_BEHIND = 4
_REFUSED = (400, 413)
_MOST_TOLD = 16


class Sender:
    """Takes reports from one thread and sends them from another.

    Parameters
    ----------
    connect
        Makes the link; called in the thread that sends.
    limit
        Minutes whose counts wait apart.
    patience_s
        How long a trouble lasts before the log hears of it.
    """

    def __init__(
        self, connect: "Callable[[], Link]", identity: Identity, limit: int, patience_s: float = 0.0
    ) -> None:
        self._patience_s = patience_s
        self._connect = connect
        self._outbox = Outbox(identity, limit)
        self._reports: deque[Report] = deque()
        self._awake = threading.Event()
        self._give_up_s: float | None = None
        """When to stop trying, on the monotonic clock, once told to."""
        self._link: Link | None = None
        self._refusals = Seldom()
        self._told: set[str] = set()
        """What the log has heard of the trouble that lasts."""
        self._since_s: float | None = None
        """When the trouble began."""
        self._thread = threading.Thread(target=self._run, name="fastserve-statistics", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def behind(self) -> bool:
        """The thread has not come to the reports before: count on, and offer them together later."""
        return len(self._reports) >= _BEHIND

    def offer(self, report: Report) -> None:
        """Hand over a report; never blocks."""
        self._reports.append(report)
        self._awake.set()

    def stop(self, limit_s: float) -> None:
        """Send what is left, for so long at most."""
        self._give_up_s = time.monotonic() + limit_s
        self._awake.set()
        self._thread.join(limit_s)

    def _run(self) -> None:
        while self._give_up_s is None:
            self._awake.wait(_RETRY_S if self._outbox.waiting else None)
            self._awake.clear()
            self._work()
        self._work()  # what was offered while the thread was busy
        # The control plane may have been started a moment ago: it gets time to listen.
        while self._outbox.waiting and time.monotonic() < self._give_up_s:
            time.sleep(_LAST_RETRY_S)
            self._work()
        if self._link is not None:
            self._link.close()

    def _work(self) -> None:
        try:
            while self._reports:
                self._outbox.add(self._reports.popleft())
            while self._send_one():
                pass
        except Exception:
            log.exception("statistics could not be sent")

    def _send_one(self) -> bool:
        """Send the oldest snapshot; True when it is worth going on at once."""
        snapshot = self._outbox.next()
        if snapshot is None:
            return False
        try:
            if self._link is None:
                self._link = self._connect()
            status, answer = self._link.post(snapshot.to_bytes())
        except OSError as error:
            self._say(f"the control plane cannot be reached: {error.strerror or error}")
            return False
        if status == 200:
            return self._on_answer(snapshot.number, answer)
        reason = str(answer.get("error", f"status {status}"))[:500]
        if status in _REFUSED:
            self._drop(reason)
            return True
        self._say(f"the control plane does not take statistics: {reason}")
        return False

    def _on_answer(self, number: int, answer: dict[str, object]) -> bool:
        """Act on a 200: the snapshot is counted, or wanted again with profiles."""
        if answer.get("number") != number:
            # Some other site says 200 to everything; nothing is counted there.
            self._say("what answers in the control plane's place is no control plane")
            return False
        wanted = answer.get("wanted")
        if not wanted:
            self._outbox.acknowledge()
            self._recovered()
        elif not isinstance(wanted, list) or not self._outbox.attach([str(digest) for digest in wanted]):
            self._drop("it asks for profiles that are not known here")
        return True

    def _drop(self, reason: str) -> None:
        text = self._refusals.admit(f"the control plane refuses a snapshot, which is dropped: {reason}")
        if text is not None:
            log.error("%s", text)
        self._outbox.acknowledge()

    def _say(self, trouble: str) -> None:
        """Log a trouble once it lasts, not every second."""
        now_s = time.monotonic()
        self._since_s = now_s if self._since_s is None else self._since_s
        lasts = now_s - self._since_s >= self._patience_s
        if lasts and trouble not in self._told and len(self._told) < _MOST_TOLD:
            log.warning("%s; statistics wait", trouble)
            self._told.add(trouble)

    def _recovered(self) -> None:
        self._since_s = None
        if self._told:
            log.info("the control plane takes statistics again")
            self._told.clear()
