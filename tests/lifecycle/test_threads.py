"""The threads of loads: whatever a job does, whoever asked is told, and the thread goes on to the next."""

import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest

from fastserve.clock import NS_PER_S
from fastserve.errors import ModelRejected, RegistryError
from fastserve.lifecycle import LoadThreads
from fastserve.registry import Registry
from tests.waiting import until


class Loop:
    """As much of an event loop as is used; the test runs what is to be called, one by one."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.ended = False

    def call_soon_threadsafe(self, call: Callable[..., object], *args: object) -> None:
        if self.ended:
            raise RuntimeError("Event loop is closed")
        self.calls.put(partial(call, *args))

    def call_later(self, delay_s: float, call: Callable[[], None]) -> None:
        self.later.append((delay_s, call))

    def run_one(self) -> None:
        self.calls.get(timeout=20)()


def fail(error: Exception, *_: object, **__: object) -> NoReturn:
    raise error


def make(
    loop: Loop,
    load: Callable[[str, int], Any],
    *,
    registry: object = SimpleNamespace(record=partial(fail, RegistryError("it is read-only"))),
    at_hand: bool = True,
    slots: int = 1,
    polite: bool = False,
) -> Any:
    free = partial(fail, ZeroDivisionError())
    given = cast(Any, loop), cast(Any, registry)
    return LoadThreads(*given, load, free, at_hand=lambda *_: at_hand, slots=slots, polite=polite)


@pytest.mark.parametrize("error", [ModelRejected("it is broken"), ZeroDivisionError()])
def test_a_load_that_fails_or_crashes_is_told(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    loop = Loop()
    told: list[object] = []
    threads = make(loop, partial(fail, error))
    threads.load("m", 1, told.append)
    loop.run_one()
    assert told == [error]
    crashed = "model m version 1: loading it crashed" in caplog.text
    assert crashed == isinstance(error, ZeroDivisionError), "what a model lacks is no fault of the server"
    assert threads.at_hand("m", 1) is None, "a load will say what is wrong with it"
    threads.close()


def test_a_free_that_crashes_is_done_and_an_audit_line_is_none_of_its_failures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop, done = Loop(), threading.Event()
    threads = make(loop, lambda *_: None)
    threads.free("what it holds", done.set)
    loop.run_one()
    assert done.is_set() and "a job of a loading thread failed" in caplog.text
    threads.record("m", "loaded", 1, "")
    loop.run_one()
    assert "model m: 'loaded' is not in the audit log: it is read-only" in caplog.text
    threads.close()


def test_what_is_not_at_hand_is_not_loaded_on_the_loops_own_thread() -> None:
    threads = make(Loop(), partial(fail, AssertionError()), at_hand=False)
    assert threads.at_hand("m", 1) is None
    threads.close()


def test_an_audit_line_says_what_happened_and_in_which_process(tmp_path: Path) -> None:
    loop, registry = Loop(), Registry(tmp_path)
    (tmp_path / "m").mkdir()
    threads = make(loop, lambda *_: None, registry=registry)
    threads.record("m", "load-failed", 3, "it is broken")
    loop.run_one()
    (line,) = registry.audit("m")
    assert line.event == "load-failed"
    assert line.details == {"version": 3, "reason": "it is broken", "pid": os.getpid()}
    threads.close()


def test_threads_go_on_although_the_loop_has_ended_and_end_when_told() -> None:
    before = set(threading.enumerate())
    loop = Loop()
    loads: list[threading.Thread] = []
    told: list[object] = []
    threads = make(loop, lambda *_: loads.append(threading.current_thread()), slots=3)
    made = set(threading.enumerate()) - before
    assert len(made) == 5, "two more than loads that run side by side: for frees, and for a newer wish"
    assert all(thread.daemon for thread in made), "the process ends whatever they do"
    loop.ended = True
    for number in range(10):
        threads.load("m", number, told.append)
    until(lambda: len(loads) == 10)
    loop.ended = False
    threads.load("m", 11, told.append)
    loop.run_one()
    assert told == [None] and all(thread.is_alive() for thread in made)
    threads.close()
    until(lambda: not any(thread.is_alive() for thread in made))


@pytest.mark.skipif(not hasattr(os, "setpriority"), reason="Linux alone has a niceness for each thread")
def test_polite_threads_leave_the_core_to_others() -> None:
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    for polite, niceness in ((False, own), (True, max(own, 10))):
        loop = Loop()
        told: list[int] = []
        threads = make(
            loop, lambda *_: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), polite=polite
        )
        threads.load("m", 1, told.append)
        loop.run_one()
        assert told == [niceness]
        threads.close()


def test_later_is_told_in_the_loops_seconds() -> None:
    loop = Loop()
    threads = make(loop, lambda *_: None)
    threads.later(3 * NS_PER_S // 2, threads.close)
    assert loop.later == [(1.5, threads.close)]
    threads.close()
