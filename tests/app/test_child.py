"""How a child's end is told, and what a parent has to do for children that it has not started."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fastserve.app.child import STOP, STOP_LAST, Child, bury_orphans, end_in_order, outlast_others
from fastserve.app.nursery import _adopt_orphans


def ends(how: object) -> Callable[[int], None]:
    def work(_lifeline: int) -> None:
        if isinstance(how, BaseException):
            raise how
        if isinstance(how, signal.Signals):
            os.kill(os.getpid(), how)
            time.sleep(20)

    return work


@pytest.mark.parametrize(
    ("how", "code"),
    [
        (None, 0),
        (SystemExit(3), 3),
        (SystemExit("in words"), 1),
        (ValueError("spoilt"), 1),
        (signal.SIGTERM, 0),
        (signal.SIGINT, 0),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
    ids=repr,
)
def test_the_code_of_a_child_says_how_it_ended(how: object, code: int) -> None:
    descriptors = os.listdir("/proc/self/fd")
    child = Child.start(ends(how))
    assert child.wait(20) and child.returncode == code
    child.send(signal.SIGKILL)  # it has ended: its number may be another's by now
    assert os.listdir("/proc/self/fd") == descriptors


def test_what_waits_to_be_printed_is_none_of_a_childs_business(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        print("once")
        child = Child.start(lambda _: None)
        monkeypatch.undo()
    assert child.wait(20) and child.returncode == 0
    assert (tmp_path / "out").read_text() == "once\n"


def test_what_cannot_be_printed_keeps_no_child_from_its_start_and_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115 - closing it fails
    monkeypatch.setattr(sys, "stderr", full)
    print("nowhere", file=full)
    child = Child.start(lambda _: None)
    assert child.wait(20) and child.returncode == 0
    monkeypatch.undo()
    with pytest.raises(OSError, match="No space left"):
        full.close()


def test_what_a_dead_child_leaves_behind_is_buried_and_its_own_children_are_not() -> None:
    if (pid := os.fork()) == 0:  # a process of its own: this one's other children are none of its business
        os._exit(_bury())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _bury() -> int:
    assert _adopt_orphans(True)
    own, lives, dies = _child(0.0), _child(60.0), _child(0.0, leaves_one=True)
    os.waitpid(dies, 0)
    time.sleep(0.5)
    # The first that has ended may be its own: then the orphans have to wait until that is asked for.
    bury_orphans([own, lives])
    assert os.waitpid(own, 0)[0] == own
    bury_orphans([own, lives])
    assert os.waitpid(-1, os.WNOHANG) == (0, 0), "nobody is left but the one that lives"
    os.kill(lives, signal.SIGKILL)
    os.waitpid(lives, 0)
    bury_orphans([])
    return 0


def _child(sleep_s: float, *, leaves_one: bool = False) -> int:
    if (pid := os.fork()) == 0:
        if leaves_one:
            _child(0.2)
        time.sleep(sleep_s)
        os._exit(0)
    return pid


@pytest.mark.parametrize("number", [*STOP, STOP_LAST])
def test_a_signal_that_comes_during_an_import_is_heard(number: signal.Signals) -> None:
    class Module:
        def __del__(self) -> None:  # what a handler raises here is lost, as it may be in an import
            os.kill(os.getpid(), number)

    def work(_lifeline: int) -> None:
        if number == STOP_LAST:
            outlast_others()
        Module()
        raise SystemExit(3)

    child = Child.start(work)
    assert child.wait(20) and child.returncode == 0


def test_what_is_done_at_the_end_is_not_cut_short_by_the_next_signals(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def work(_lifeline: int) -> None:
        end_in_order()
        sys.unraisablehook = sys.__unraisablehook__  # not pytest's, which would keep it to itself
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
            for number in STOP:
                os.kill(os.getpid(), number)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)  # both at once
        finally:
            for number in STOP:
                os.kill(os.getpid(), number)
            print("the last words")

    child = Child.start(work)
    assert child.wait(20) and child.returncode == 0
    assert capfd.readouterr() == ("the last words\n", "")
