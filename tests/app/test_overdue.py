"""Runs that take longer than they may."""

import faulthandler
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastserve.app.overdue import Overdue
from fastserve.app.running import Board, Noted
from fastserve.app.slot import Slot
from fastserve.registry import Registry
from tests import models
from tests.registries import publish
from tests.servers import running
from tests.waiting import until


class Watched:
    """Models on one board whose runs last until they are let go, and what was done to them."""

    def __init__(self) -> None:
        self.overdue = Overdue(Board(), lambda _: self.done.append("end"))
        self.done: list[str] = []
        self.noted: list[Noted] = []

    @contextmanager
    def runs(self, label: str, limit_s: float) -> Iterator[None]:
        begun, go = threading.Event(), threading.Event()

        def run(_: object) -> None:
            begun.set()
            go.wait(20)

        runtime = SimpleNamespace(
            signature=None,
            provider="cpu",
            close=None,
            bind=None,
            run=run,
            interrupt=lambda: self.done.append(f"stop {label}"),
        )
        noted = Noted(runtime, self.overdue.board, label, limit_s)
        self.noted.append(noted)
        self.overdue.add(noted)
        thread = threading.Thread(target=noted.run, args=([],))
        thread.start()
        assert begun.wait(20)
        yield
        go.set()
        thread.join(20)

    def look(self, now_s: float) -> list[str]:
        """What is done at this time."""
        self.done.clear()
        self.overdue.look(now_s)
        return list(self.done)


def test_a_run_is_stopped_at_its_limit_and_the_process_if_that_does_not_help() -> None:
    watched = Watched()
    with watched.runs("model m version 1", 5.0):
        assert [watched.look(now_s) for now_s in (100.0, 104.9, 105.0, 106.0, 114.9)] == [
            [],
            [],
            ["stop model m version 1"],
            [],
            [],
        ]
        assert watched.look(115.0) == ["end"]
    assert watched.look(116.0) == []


def test_each_run_has_its_own_time_and_its_own_limit() -> None:
    watched = Watched()
    with watched.runs("model long version 1", 60.0):
        for second in range(0, 30, 4):
            with watched.runs("model m version 1", 5.0):
                assert watched.look(100.0 + second) == []
                assert watched.look(104.0 + second) == []
        assert watched.look(159.9) == []
        assert watched.look(160.0) == ["stop model long version 1"]


def test_what_may_take_any_time_is_left_alone_and_so_is_who_has_gone() -> None:
    watched = Watched()
    with watched.runs("model m version 1", float("inf")):
        for now_s in (100.0, 1e9):
            assert watched.look(now_s) == []
    board = watched.overdue.board
    with watched.runs("model m version 2", 5.0):
        assert watched.look(100.0) == []
        watched.noted.clear()
    board.memory[: len(b"model gone")] = b"model gone"
    for now_s in (200.0, 300.0):
        assert watched.look(now_s) == []


def test_the_parent_learns_what_could_not_be_stopped(caplog: pytest.LogCaptureFixture) -> None:
    def work(slot: Slot, _lifeline: int) -> None:
        faulthandler.disable()  # pytest's: it would print where each thread was
        overdue = Overdue(slot.board)

        def run_beside(_: object) -> None:
            begun.set()
            threading.Event().wait()

        def run(_: object) -> None:
            for now_s in (100.0, 105.0, 115.0):
                overdue.look(now_s)

        runtime = SimpleNamespace(
            signature=None, provider="cpu", close=None, bind=None, run=run, interrupt=lambda: None
        )
        beside = SimpleNamespace(**{**vars(runtime), "run": run_beside})
        begun = threading.Event()
        other = Noted(beside, slot.board, "model n version 1", 5.0)
        threading.Thread(target=other.run, args=([],), daemon=True).start()
        begun.wait()
        noted = Noted(runtime, slot.board, "model m version 2", 5.0)
        overdue.add(noted)
        noted.run([])

    with socket.socket() as listener:
        slot = Slot("worker 0", listener, work)
        slot.tend(100.0)
        process = slot.process
        assert process is not None and process.wait(20)
        slot.tend(101.0)
    assert process.returncode == -signal.SIGABRT
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "worker 0 ended with code -6 while it ran model m version 2; starting it again in 0 s"
    ]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("inline_max_us", [0, 1_000_000])
def test_an_endless_run_fails_and_its_worker_goes_on(
    tmp_path: Path, workers: int, inline_max_us: int
) -> None:
    registry = Registry(tmp_path / "registry")
    publish(registry, "looping", models.looping())
    batching = {"max_run_ms": 500, "inline_max_us": inline_max_us}
    settings = {"server": {"workers": workers, "control_port": 0}, "batching": batching}

    def ask(turns: int) -> dict[str, object]:
        return {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "INT64", "data": [turns]}]}

    with running(registry.path, tmp_path, settings) as server:
        answer = server.request("POST", "/v2/models/looping/infer", ask(2**62))
        assert (answer.status, answer.error) == (500, "the model failed: it ran longer than it may")
        until(lambda: "model looping version 1 has run for 0.5 s" in server.log.read_text())
        for _ in range(8):
            assert server.request("POST", "/v2/models/looping/infer", ask(7)).status == 200
        assert "ended with code" not in server.log.read_text()
