"""The child that test loads happen in: how it starts, what it keeps, and what its answers mean."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastserve.errors import ModelRejected
from fastserve.lifecycle.options import LifecycleOptions
from fastserve.lifecycle.probe import inspect_apart
from fastserve.lifecycle.probe_child import ProbeChild, request_of, verdict
from tests import models
from tests.waiting import until


@pytest.fixture
def child() -> Iterator[ProbeChild]:
    made = ProbeChild()
    yield made
    made.end()


@pytest.mark.parametrize(
    ("program", "words"),
    [("/bin/false", r"ends at once \(exit code 1\)"), ("/gone", "can be started: No such file or directory")],
)
def test_a_process_that_does_not_start_is_a_reason(
    monkeypatch: pytest.MonkeyPatch, program: str, words: str
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    opened = os.listdir("/proc/self/fd")
    with pytest.raises(ModelRejected, match=words):
        ProbeChild()
    assert os.listdir("/proc/self/fd") == opened


def test_an_answer_leaves_nothing_open(tmp_path: Path, child: ProbeChild) -> None:
    """A registry may have more models than a process may have files open."""
    (tmp_path / "model.onnx").write_bytes(models.scaled())
    opened = os.listdir("/proc/self/fd")
    request = request_of(tmp_path / "model.onnx", LifecycleOptions())
    assert verdict(child.ask(request), request, clean_errors_count=True) is not None
    assert os.listdir("/proc/self/fd") == opened
    # Three that lead to /dev/null, the socket that it is asked on, and its selector.
    until(lambda: len(os.listdir(f"/proc/{child.pid}/fd")) == 5, 10)


def test_one_that_nobody_waits_for_gets_answers_too(tmp_path: Path) -> None:
    """Who starts a command may ignore how children end, and hands that down."""
    (tmp_path / "model.onnx").write_bytes(models.scaled())
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert inspect_apart(tmp_path / "model.onnx", LifecycleOptions()).batched
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_what_takes_too_long_is_ended_at_once(tmp_path: Path, child: ProbeChild) -> None:
    """And not when it has used up its processor time, which one that waits never does."""
    os.mkfifo(tmp_path / "model.onnx")
    answer = child.ask(request_of(tmp_path / "model.onnx", LifecycleOptions(probe_timeout_s=0.2)))
    assert (answer["expired"], answer["code"]) == (True, -signal.SIGKILL)


@pytest.mark.parametrize(
    ("code", "report", "words"),
    [
        (-signal.SIGABRT, None, "crashed a test process (signal 6)"),
        (0, None, "ended a test process (exit code 0)"),
        (3, ["memory"], "ended a test process (exit code 3)"),
        (0, {"signature": {"inputs": 1}}, "reported nonsense"),
    ],
)
def test_what_an_answer_means(code: int, report: Any, words: str) -> None:
    answer = {"code": code, "expired": False, "report": report}
    with pytest.raises(ModelRejected) as caught:
        verdict(answer, {"timeout_s": 2.0, "memory_bytes": 1}, clean_errors_count=True)
    assert words in str(caught.value)
