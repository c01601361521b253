"""A process that loads models once, forks the workers, and ends: these share the memory of what it loaded."""

import gc
import logging
import os
import signal
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Self

from fastserve.app.child import Child, fork
from fastserve.app.slot import Slot
from fastserve.runtime.libc import prctl

log = logging.getLogger("fastserve.app")

_BORN = struct.Struct("=II")
"""Number of a worker's slot, its process id."""
_TASKS = Path("/proc/self/task")
_SET_CHILD_SUBREAPER = 36
_ALONE_S = 5.0
_POLL_S = 0.01
_KILL_S = 5.0


class Nursery:
    """Fills slots with workers that are forked from a process which has loaded their models.

    The workers become this process's children when that one has ended. If it fails, however it does, slots
    stay empty and are filled as always.

    Parameters
    ----------
    load
        Runs there before the workers are forked.
    give_up_s
        When that process is ended, on the clock of `time.monotonic`.
    """

    def __init__(self, slots: list[Slot], load: Callable[[], None], give_up_s: float) -> None:
        self._slots = slots
        self._load = load
        self._give_up_s = give_up_s
        with ExitStack() as opened:
            self._lifelines = [_pipe(opened) for _ in slots]
            self._born = _pipe(opened)
            self._process = Child.start(self._load_and_fork)
            opened.pop_all()
        for lifeline, _ in self._lifelines:
            os.close(lifeline)
        os.close(self._born[1])

    @classmethod
    def open(cls, slots: list[Slot], load: Callable[[], None], give_up_s: float) -> Self | None:
        """Start it; None where a system cannot hand processes on (it takes Linux), or has no room for one."""
        if not _adopt_orphans(True):
            return None
        try:
            return cls(slots, load, give_up_s)
        except OSError as error:
            log.warning(
                "models cannot be loaded once for all workers (%s); each loads its own", error.strerror
            )
            _adopt_orphans(False)
            return None

    def done(self, now_s: float) -> bool:
        """Look whether it has ended, or has to; then the slots are filled as far as they will be."""
        if self._process.poll() is None:
            if now_s < self._give_up_s:
                return False
            log.warning("loading models once for all workers takes too long; each worker loads its own")
            self._process.send(signal.SIGKILL)
        elif self._process.returncode:
            log.warning(
                "loading models once for all workers failed (code %d); each worker loads its own",
                self._process.returncode,
            )
        self._take_over()
        return True

    def end(self) -> None:
        """End it, because the server stops."""
        self._process.send(signal.SIGTERM)
        if not self._process.wait(_KILL_S):
            self._process.send(signal.SIGKILL)
        self._take_over()

    def disown(self) -> None:
        """In a process that is forked meanwhile: drop what only the supervisor may hold."""
        self._process.disown()
        os.close(self._born[0])
        for _, held in self._lifelines:
            os.close(held)

    def _take_over(self) -> None:
        """Make the workers this process's own. Those whose birth went unreported end with their lifelines."""
        self._process.wait(_KILL_S)
        os.set_blocking(self._born[0], False)
        with suppress(BlockingIOError):
            reports = os.read(self._born[0], _BORN.size * len(self._slots))
            for number, pid in _BORN.iter_unpack(reports):
                self._slots[number].fill(Child(pid, self._lifelines[number][1]), time.monotonic())
        os.close(self._born[0])
        for slot, (_, held) in zip(self._slots, self._lifelines, strict=True):
            if slot.process is None:
                os.close(held)
        _adopt_orphans(False)

    def _load_and_fork(self, lifeline: int) -> None:
        """Be the process: load, fork the workers, end. Should the supervisor be gone, these notice."""
        os.close(lifeline)
        os.close(self._born[0])
        for _, held in self._lifelines:
            os.close(held)
        self._load()
        if not _alone():
            log.warning("a library keeps threads, so that nothing can be shared; each worker loads its own")
            return
        gc.collect()
        gc.freeze()
        for number, slot in enumerate(self._slots):
            pid = fork(partial(self._live, number, slot))
            os.write(self._born[1], _BORN.pack(number, pid))

    def _live(self, number: int, slot: Slot) -> None:
        """Be a worker: this runs in the child."""
        for other, (lifeline, _) in enumerate(self._lifelines):
            if other != number:
                os.close(lifeline)
        os.close(self._born[1])
        slot.work(slot, self._lifelines[number][0])


def _pipe(opened: ExitStack) -> tuple[int, int]:
    """Open a pipe that is closed with the stack."""
    ends = os.pipe()
    for end in ends:
        opened.callback(os.close, end)
    return ends


def _alone() -> bool:
    """Wait until this process has one thread; False if it stays with more, which no fork takes along."""
    give_up_s = time.monotonic() + _ALONE_S
    while len(os.listdir(_TASKS)) > 1:
        if time.monotonic() > give_up_s:
            return False
        time.sleep(_POLL_S)
    return True


def _adopt_orphans(adopt: bool) -> bool:
    """Become the parent of what descendants leave behind, or stop that; False where the system cannot."""
    return prctl(_SET_CHILD_SUBREAPER, int(adopt))
