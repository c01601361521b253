"""A process's place when the system has no room for the process, or when that keeps ending."""

import contextlib
import errno
import os
import signal
import socket

import pytest

from fastserve.app.child import Child
from fastserve.app.listening import bind
from fastserve.app.slot import Slot


def process(slot: Slot) -> Child | None:
    return slot.process


def test_a_process_that_cannot_be_forked_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, left = os.fork, [2]

    def fork() -> int:
        if left[0]:
            left[0] -= 1
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return real()

    monkeypatch.setattr(os, "fork", fork)
    with socket.socket() as listener:
        slot = Slot("worker 0", listener, lambda _slot, _lifeline: None)
        descriptors = os.listdir("/proc/self/fd")
        slot.tend(100.0)
        assert process(slot) is None and slot.start_at_s == 100.0
        slot.tend(100.2)
        assert process(slot) is None and slot.start_at_s == 101.2
        slot.tend(101.0)
        assert left == [0] and process(slot) is None
        assert os.listdir("/proc/self/fd") == descriptors
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGTERM, signal.SIGINT}
        slot.tend(101.2)
        started = process(slot)
        assert started is not None and started.wait(20) and started.returncode == 0
    assert "worker 0 cannot be started (Resource temporarily unavailable); starting it again" in caplog.text


def test_what_keeps_ending_is_started_ever_more_slowly_until_it_has_lived_a_minute() -> None:
    with socket.socket() as listener:
        slot = Slot("worker 0", listener, lambda _slot, _lifeline: None)

        def dies_after(lived_s: float) -> float:
            """Start it, see its end so much later, and give how long it waits then."""
            began_s = slot.start_at_s
            slot.tend(began_s)
            started = process(slot)
            assert started is not None and started.wait(20)
            slot.tend(began_s + lived_s)
            assert process(slot) is None
            return slot.start_at_s - (began_s + lived_s)

        assert [dies_after(1.0) for _ in range(7)] == pytest.approx([0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 30.0])
        assert dies_after(60.0) == pytest.approx(30.0)
        assert dies_after(61.0) == pytest.approx(0.0)
        assert dies_after(1.0) == pytest.approx(1.0)


@pytest.mark.parametrize(("deaths", "waited_s"), [(3, 3.0), (5, 18.0)])
def test_who_connects_to_a_worker_that_keeps_ending_goes_to_its_sibling_until_it_listens_again(
    deaths: int, waited_s: float
) -> None:
    first, second = bind("127.0.0.1", 0, 128, 2)
    with first, second:
        slot = Slot("worker 0", first, lambda _slot, _lifeline: None)
        for _ in range(deaths):
            slot.tend(slot.start_at_s)
            started = process(slot)
            assert started is not None and started.wait(20)
            slot.tend(slot.start_at_s)
        assert slot.start_at_s == waited_s
        assert taken(second, of=40) == 40
        first.listen()
        assert 0 < taken(second, of=40) < 40
        second.close()
        assert taken(first, of=0) > 0
        with socket.create_connection(first.getsockname(), timeout=10) as client, first.accept()[0] as served:
            served.sendall(b"x")
            assert client.recv(1) == b"x"


def test_who_connects_after_a_worker_was_stopped_waits_for_the_next_one() -> None:
    """At its end a worker lets nobody in, and the kernel tries again after 1, 3, 7 s: too late for many clients."""
    with bind("127.0.0.1", 0, 128, 1)[0] as listener, contextlib.ExitStack() as clients:
        slot = Slot("worker 0", listener, lambda slot, _lifeline: slot.listener.listen(0))
        slot.tend(0.0)
        started = process(slot)
        assert started is not None and started.wait(20)
        slot.tend(0.0)
        for _ in range(10):
            clients.enter_context(socket.create_connection(listener.getsockname(), timeout=0.5))


def taken(listener: socket.socket, *, of: int) -> int:
    """How many of so many connections wait for this listener; all are closed."""
    for _ in range(of):
        socket.create_connection(listener.getsockname(), timeout=10).close()
    count = 0
    listener.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count
