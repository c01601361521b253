"""What is known of a process that a model has ended."""

import http.client
import os
import platform
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fastserve.app.running import Board, Noted
from fastserve.app.slot import Slot
from fastserve.errors import ModelFailed, RunStopped
from fastserve.registry import Registry
from fastserve.runtime import OnnxRuntime
from fastserve.types import Array
from tests import models
from tests.registries import publish
from tests.servers import Server, running
from tests.waiting import until

X86_ONLY = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="elsewhere processors divide without a trap"
)
POISON = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "INT64", "data": [-(2**63)]}]}
ROWS = [np.ones((2, 3), np.float32)]


def fake(run: Callable[[Sequence[Array]], Any]) -> Any:
    """A runtime whose calls all do this."""
    return SimpleNamespace(
        signature=None,
        provider="cpu",
        close=None,
        interrupt=None,
        run=run,
        bind=lambda rows: run(rows) and (lambda: run(rows)),
    )


def divided() -> bytes:
    """Divides `x` INT64 [batch, 1] by -1, which ends the process where the quotient has no place."""
    x, y = (models.tensor(name, TensorProto.INT64, ["batch", 1]) for name in "xy")
    minus = numpy_helper.from_array(np.array([-1], np.int64), "minus")
    return models.model_bytes([helper.make_node("Div", ["x", "minus"], ["y"])], [x], [y], [minus])


def test_a_run_is_on_the_board_while_it_lasts_and_gone_however_it_ends() -> None:
    board, seen = Board(), []

    def run(_: Sequence[Array]) -> bool:
        seen.append(board.memory[board.place()].rstrip(b"\0"))
        if len(seen) > 3:
            raise MemoryError
        return True

    noted = Noted(fake(run), board, "model m version 3")
    bound = noted.bind(ROWS)
    assert bound is not None
    bound()
    assert board.take() == []
    noted.run(ROWS)
    assert board.take() == []
    for call in (bound, lambda: noted.run(ROWS), lambda: noted.bind(ROWS)):
        with pytest.raises(MemoryError):
            call()
        assert board.take() == []
    assert seen == [b"model m version 3"] * 6


@pytest.mark.parametrize("seen_ago_s", [None, 1.0, 60.0])
def test_whose_run_is_stopped_for_another_of_its_version_runs_again(seen_ago_s: float | None) -> None:
    board, begun = Board(), []

    def run(rows: Sequence[Array]) -> Sequence[Array]:
        begun.append(rows)
        if len(begun) % 2:
            if seen_ago_s is not None:
                assert list(board.running(time.monotonic() - seen_ago_s))
            raise RunStopped
        return rows

    noted = Noted(fake(run), board, "model m version 1", 50.0)
    for call in (noted.run, noted.bind):
        begun.clear()
        with pytest.raises(RunStopped) if seen_ago_s == 60.0 else nullcontext():
            call(ROWS)
        assert len(begun) == (1 if seen_ago_s == 60.0 else 2)
        assert board.take() == []


def test_each_thread_has_a_place_of_its_own() -> None:
    board, go, met = Board(), threading.Event(), threading.Barrier(3)

    def run(_: Sequence[Array]) -> None:
        met.wait(20)
        go.wait(20)

    threads = [
        threading.Thread(target=Noted(fake(run), board, label).run, args=(ROWS,))
        for label in ("model a version 1", "model b version 2")
    ]
    for thread in threads:
        thread.start()
    met.wait(20)
    assert board.take() == ["model a version 1", "model b version 2"]
    go.set()
    for thread in threads:
        thread.join(20)


def test_a_noted_model_answers_as_it_does_itself(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(models.scaled())
    plain = OnnxRuntime(path)
    noted = Noted(plain, Board(), "model m version 1")
    bound = noted.bind(ROWS)
    assert bound is not None and noted.signature is plain.signature and noted.provider == "cpu"
    for answer in (noted.run(ROWS), bound()):
        np.testing.assert_array_equal(answer[0], plain.run(ROWS)[0])
    assert noted.bind([np.ones((0, 3), np.float32)]) is None


def test_the_log_names_what_ran_in_a_process_that_ended(caplog: pytest.LogCaptureFixture) -> None:
    def work(slot: Slot, _lifeline: int) -> None:
        Noted(fake(lambda _: None), slot.board, "model good version 1").run(ROWS)
        if slot.deaths == 0:
            die = fake(lambda _: os.kill(os.getpid(), signal.SIGKILL))
            Noted(die, slot.board, "model bad version 2").run(ROWS)

    with socket.socket() as listener:
        slot = Slot("worker 0", listener, work)
        for _ in range(2):
            slot.tend(100.0)
            started = slot.process
            assert started is not None and started.wait(20)
            slot.tend(100.0)
    assert [record.getMessage() for record in caplog.records] == [
        "worker 0 ended with code -9 while it ran model bad version 2; starting it again in 0 s",
        "worker 0 ended with code 0; starting it again in 1 s",
    ]


@pytest.mark.parametrize(
    ("number", "labels", "lived_s", "ran_s", "barred"),
    [
        (signal.SIGFPE, ["model m version 2"], 1.0, None, {"model m version 2": 302.0}),
        (signal.SIGABRT, ["model m version 2"], 1.0, None, {"model m version 2": 302.0}),
        (signal.SIGABRT, ["model m version 2"], 140.0, 130.0, {"model m version 2": 580.0}),
        (signal.SIGKILL, ["model m version 2"], 1.0, None, {}),
        (signal.SIGFPE, ["model m version 2", "model n version 1"], 1.0, None, {}),
        (signal.SIGFPE, [], 1.0, None, {}),
        (signal.SIGFPE, ["model m version 2"], 61.0, None, {}),
        (signal.SIGABRT, ["model m version 2"], 191.0, 130.0, {}),
    ],
    ids=[
        "divides",
        "aborts",
        "cannot be stopped",
        "is killed by others",
        "beside another",
        "idle",
        "not in a row",
        "cannot be stopped now and then",
    ],
)
def test_what_ends_its_worker_three_times_in_a_row_is_kept_from_the_next(
    number: int, labels: list[str], lived_s: float, ran_s: float | None, barred: dict[str, float]
) -> None:
    with socket.socket() as listener:
        slot = Slot("worker 0", listener, lambda *_: None)
        now_s = 0.0
        for death in range(3):
            assert not slot.board.barred
            now_s = death * lived_s
            for place, label in enumerate(labels):
                slot.board.memory[place * 256 : place * 256 + len(label)] = label.encode()
            if ran_s is not None:
                assert list(slot.board.running(now_s - ran_s))
            slot.process = SimpleNamespace(poll=lambda: -number, returncode=-number)  # type: ignore[assignment]
            slot.tend(now_s)
            slot.started_s = now_s
        assert slot.board.barred == barred


def test_what_is_barred_is_refused_for_a_while() -> None:
    board = Board()
    board.barred["model m version 2"] = 302.0
    board.check("model m version 1", 300.0)
    board.check("model m version 2", 302.0)
    with pytest.raises(ModelFailed, match="it has ended its worker several times in a row"):
        board.check("model m version 2", 301.9)


@X86_ONLY
@pytest.mark.parametrize("load_ahead_s", [0, 60])
def test_a_request_that_ends_its_worker_leaves_the_models_name_in_the_log(
    tmp_path: Path, load_ahead_s: int
) -> None:
    registry = Registry(tmp_path / "registry")
    publish(registry, "divided", divided())
    settings = {"server": {"workers": 2, "load_ahead_s": load_ahead_s}}
    with running(registry.path, tmp_path, settings) as server:
        with suppress(OSError, http.client.HTTPException):
            server.request("POST", "/v2/models/divided/infer", POISON)
        until(lambda: "ended with code -8 while it ran model divided version 1;" in server.log.read_text())


@X86_ONLY
def test_a_model_that_ends_its_workers_again_and_again_does_not_take_the_others_along(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    publish(registry, "divided", divided())
    publish(registry, "scaled", models.scaled())
    ask = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1.0, 2.0, 3.0]}]}

    def poisoned(server: Server) -> bool:
        """Whether this is refused by now."""
        with suppress(OSError, http.client.HTTPException):
            answer = server.request("POST", "/v2/models/divided/infer", POISON)
            return answer.status == 503 and "several times in a row" in answer.error
        return False

    with running(registry.path, tmp_path, {"server": {"workers": 2}}) as server:
        until(lambda: poisoned(server) and server.log.read_text().count("ended with code -8") == 6)
        for _ in range(20):
            assert poisoned(server)
            assert server.request("POST", "/v2/models/scaled/infer", ask).status == 200
