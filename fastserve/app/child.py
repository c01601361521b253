"""A child process: forked, so that nothing is imported twice, and tied to the supervisor's life."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn, Self

log = logging.getLogger("fastserve.app")

_POLL_S = 0.02
_OOM_ADJUSTMENT = Path("/proc/self/oom_score_adj")
_OOM_MORE, _OOM_MOST = 300, 1_000
STOP = (signal.SIGTERM, signal.SIGINT)
STOP_LAST = signal.SIGUSR1
"""Stops a process that outlasts the others."""


class Child:
    """A child process, and the end of the pipe that tells it, by closing, that its parent is gone."""

    def __init__(self, pid: int, held: int) -> None:
        self.pid = pid
        self._held = held
        self.returncode: int | None = None
        """Exit code, or minus the signal that ended it; None while it runs."""

    @classmethod
    def start(cls, work: Callable[[int], None]) -> Self:
        """Fork a process that runs `work`; that gets a descriptor which reports the parent's death.

        Raises
        ------
        OSError
            No memory, process or descriptor is left.
        """
        lifeline, held = os.pipe()

        def live() -> None:
            os.close(held)
            work(lifeline)

        try:
            pid = fork(live)
        except OSError:
            os.close(held)
            raise
        finally:
            os.close(lifeline)
        return cls(pid, held)

    def disown(self) -> None:
        """In a sibling: drop the end of the lifeline that only the parent may hold."""
        os.close(self._held)

    def poll(self) -> int | None:
        """Look whether it has ended; its `returncode`."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
                os.close(self._held)
        return self.returncode

    def wait(self, limit_s: float) -> bool:
        """Wait until it has ended; False when it has not within `limit_s`."""
        give_up_s = time.monotonic() + limit_s
        while self.poll() is None:
            if time.monotonic() >= give_up_s:
                return False
            time.sleep(_POLL_S)
        return True

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def fork(work: Callable[[], None]) -> int:
    """Fork a process that runs `work` and ends; its process id, or OSError.

    Only from a process with one thread: the child has none but the one that forks.
    """
    _flush()
    # A signal to stop waits until the child has handlers of its own.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    try:
        pid = os.fork()
        if pid == 0:
            _run(work)
    finally:
        take_stop_signals()
    return pid


def take_stop_signals() -> None:
    """Have SIGTERM and SIGINT arrive, although whoever started this process may have kept them back."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)


def outlast_others() -> None:
    """In a child: leave SIGTERM and SIGINT, which may be sent to every process at once, for STOP_LAST."""
    for number in STOP:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(STOP_LAST, _end_now)


def bury_orphans(own: Collection[int]) -> None:
    """Let children go that have ended and are none of these: what dead ones leave behind.

    The first process of a container is left with them, such as the process that a killed worker tested in.
    """
    with suppress(ChildProcessError):  # there is no child at all
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid in own:
                return  # whoever started it asks how it ended
            os.waitpid(ended.si_pid, 0)


def _run(work: Callable[[], None]) -> NoReturn:
    """Be the child: work, then end without going back to what the parent was doing."""
    code = 1
    try:
        # Ctrl-C reaches the whole foreground group; the supervisor alone decides when workers stop.
        os.setsid()
        _offer_to_the_oom_killer()
        for number in STOP:
            signal.signal(number, _end_now)
        take_stop_signals()
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        log.exception("this process ends")
    finally:
        end_process(code)


def _offer_to_the_oom_killer() -> None:
    """Where memory runs out, let Linux end this process before the supervisor, which starts it again."""
    with suppress(OSError, ValueError):
        adjustment = int(_OOM_ADJUSTMENT.read_text())
        _OOM_ADJUSTMENT.write_text(str(min(_OOM_MOST, adjustment + _OOM_MORE)))


def _end_now(_number: int, _frame: FrameType | None) -> None:
    """End at a signal, as a handler, while there is nothing to clear up: imports may lose what is raised."""
    os._exit(0)


def end_in_order() -> None:
    """Let a signal to stop raise SystemExit, where everything is imported and an end has work to do."""
    # uvicorn finishes what is in flight and then raises the signal again: being asked to stop is no failure.
    for number in STOP:
        signal.signal(number, _leave)


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End at a signal, as a handler; the next ones do not cut short what is done at the end."""
    for number in STOP:
        # Not SIG_IGN, which Python complains of where the next one has come already.
        signal.signal(number, lambda *_: None)
    raise SystemExit(0)


def end_process(code: int) -> NoReturn:
    """End this process now: a thread may be inside a model's load, where the interpreter's own end aborts."""
    logging.shutdown()
    _flush()
    os._exit(code)


def _flush() -> None:
    """Have what was printed written, unless its reader is gone or a disk is full: processes start and end."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
