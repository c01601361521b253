"""The thread that sends, against a real server on a Unix socket that answers what the test wants."""

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from fastserve.monitoring import sender as sender_module
from fastserve.monitoring.outbox import Report
from fastserve.monitoring.sender import Sender
from fastserve.monitoring.snapshot import Snapshot, VersionDelta, read_snapshot
from fastserve.monitoring.transport import SNAPSHOT_PATH, Link
from tests.monitoring.test_outbox import FIGURES, PROFILE, WHO, delta
from tests.waiting import until

Answer = tuple[int, dict[str, Any]]


class ControlPlane(socketserver.ThreadingUnixStreamServer):
    """Keeps every snapshot that it is sent; `answer` says what it gives."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.received: list[Snapshot] = []
        self.answer: Callable[[Snapshot], Answer] = lambda one: (200, {"number": one.number, "wanted": []})
        super().__init__(str(path), Handler)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ControlPlane

    def do_POST(self) -> None:
        assert self.path == SNAPSHOT_PATH
        snapshot = read_snapshot(self.rfile.read(int(self.headers["content-length"])))
        self.server.received.append(snapshot)
        status, answer = self.server.answer(snapshot)
        body = json.dumps({"number": snapshot.number, **answer}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return "unix"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
def control(path: Path) -> Iterator[ControlPlane]:
    with ControlPlane(path) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def sender(path: Path) -> Iterator[Sender]:
    one = Sender(lambda: Link(path), WHO, 5)
    one.start()
    yield one
    one.stop(5)


def report(*deltas: VersionDelta, at_s: int = 100) -> Report:
    return Report(list(deltas), [], FIGURES, (at_s * 1_000, at_s * 1_000 + 1), {PROFILE.digest(): PROFILE})


def counted(control: ControlPlane) -> int:
    """Rows of every snapshot once, however often it came."""
    once = {one.number: sum(each.watched_rows for each in one.deltas) for one in control.received}
    return sum(once.values())


def test_reports_arrive_numbered(control: ControlPlane, sender: Sender) -> None:
    sender.offer(report(delta(3)))
    until(lambda: len(control.received) == 1)
    sender.offer(report(delta(4)))
    until(lambda: counted(control) == 7)
    assert [one.number for one in control.received] == [1, 2]
    assert control.received[0].incarnation == WHO.incarnation


def test_what_was_counted_before_there_was_a_control_plane_arrives(
    path: Path, sender: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    sender.offer(report(delta(3)))
    sender.offer(report(delta(4), at_s=200))
    until(lambda: "the control plane cannot be reached: No such file or directory" in caplog.text)
    with ControlPlane(path) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        until(lambda: counted(server) == 7)
        server.shutdown()


def test_a_snapshot_that_is_not_confirmed_comes_again_the_same(control: ControlPlane, sender: Sender) -> None:
    control.answer = lambda _: (503, {"error": "the database is locked"})
    sender.offer(report(delta(3)))
    until(lambda: len(control.received) >= 2)
    sender.offer(report(delta(4)))
    control.answer = lambda one: (200, {"number": one.number})
    until(lambda: counted(control) == 7)
    same = {one.to_bytes() for one in control.received if one.number == 1}
    assert len(same) == 1


def test_profiles_that_are_wanted_come_along(control: ControlPlane, sender: Sender) -> None:
    known: set[str] = set()

    def answer(one: Snapshot) -> Answer:
        known.update(one.profiles)
        return 200, {"wanted": [digest for each in one.deltas if (digest := each.profile) not in known]}

    control.answer = answer
    sender.offer(report(delta(3)))
    until(lambda: len(control.received) == 2)
    assert control.received[1].profiles == {PROFILE.digest(): PROFILE.to_bytes()}
    sender.offer(report(delta(1)))
    until(lambda: counted(control) == 4)


@pytest.mark.parametrize("status", [400, 413])
def test_snapshots_that_are_refused_for_good_do_not_stop_the_next(
    control: ControlPlane, sender: Sender, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    control.answer = lambda one: (status if one.number <= 2 else 200, {"error": "deltas.0: wrong"})
    for number in (1, 2, 3):
        sender.offer(report(delta(number)))
        until(lambda count=number: len(control.received) == count)  # type: ignore[misc]
    assert [one.number for one in control.received] == [1, 2, 3]
    assert caplog.text.count("which is dropped: deltas.0: wrong") == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            (409, {"error": "the snapshot has format 2"}),
            "does not take statistics: the snapshot has format 2",
        ),
        ((502, {}), "does not take statistics: status 502"),
        ((200, {"number": 7}), "what answers in the control plane's place is no control plane"),
    ],
)
def test_who_does_not_count_is_asked_again_and_the_log_says_why(
    control: ControlPlane, sender: Sender, caplog: pytest.LogCaptureFixture, answer: Answer, said: str
) -> None:
    control.answer = lambda _: answer
    sender.offer(report(delta(3)))
    until(lambda: said in caplog.text)
    control.answer = lambda _: (200, {})
    until(lambda: len(control.received) >= 2)
    assert {one.number for one in control.received} == {1}
    sender.offer(report(delta(4)))
    until(lambda: counted(control) == 7)


def test_troubles_that_take_turns_are_said_once_each(
    control: ControlPlane, sender: Sender, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "_RETRY_S", 0.1)
    monkeypatch.setattr(sender_module, "_MOST_TOLD", 2)
    caplog.set_level("INFO")
    asked: list[int] = []

    def answer(one: Snapshot) -> Answer:
        asked.append(one.number)
        return (200, {}) if len(asked) > 8 else (503, {"error": f"trouble {len(asked) % 3}"})

    control.answer = answer
    for _ in range(3):
        sender.offer(report(delta(1)))
    until(lambda: "takes statistics again" in caplog.text)
    # The third comes when enough was said.
    assert [caplog.text.count(f"trouble {which}") for which in (1, 2, 0)] == [1, 1, 0]


def test_a_trouble_that_lasts_is_told_each_time(
    control: ControlPlane, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "_RETRY_S", 0.1)
    caplog.set_level("INFO")
    one = Sender(lambda: Link(path), WHO, 5, patience_s=0.25)
    one.start()
    for times in (1, 2):
        before = len(control.received)
        control.answer = lambda _: (503, {"error": "for a while"})
        one.offer(report(delta(1)))
        until(lambda count=times: caplog.text.count("for a while; statistics wait") == count)  # type: ignore[misc]
        told_after = len(control.received)
        assert told_after - before >= 3
        until(lambda more=told_after + 2: len(control.received) > more)  # type: ignore[misc]
        control.answer = lambda _: (200, {})
        until(lambda count=times: caplog.text.count("takes statistics again") == count)  # type: ignore[misc]
        assert caplog.text.count("for a while; statistics wait") == times, "once, however often it is tried"
    one.stop(5)


def test_a_trouble_that_does_not_last_is_not_told(
    control: ControlPlane, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    control.answer = lambda one: (503 if len(control.received) < 3 else 200, {"error": "in a moment"})
    one = Sender(lambda: Link(path), WHO, 5, patience_s=600)
    one.start()
    one.offer(report(delta(5)))
    until(lambda: len(control.received) == 3)
    one.stop(10)
    assert caplog.text == ""


def test_the_last_words_are_sent_before_the_end(control: ControlPlane, path: Path) -> None:
    one = Sender(lambda: Link(path), WHO, 5)
    one.start()
    one.offer(report(delta(5)))
    one.stop(10)
    assert counted(control) == 5


@pytest.mark.parametrize("last_words", [False, True])
def test_what_comes_while_the_thread_is_busy_is_sent(
    control: ControlPlane, path: Path, last_words: bool
) -> None:
    go_on = threading.Event()

    def answer(one: Snapshot) -> Answer:
        go_on.wait(10)
        return 200, {"number": one.number, "wanted": []}

    control.answer = answer
    one = Sender(lambda: Link(path), WHO, 5)
    one.start()
    one.offer(report(delta(1)))
    until(lambda: len(control.received) == 1)
    one.offer(report(delta(41)))
    if last_words:
        threading.Timer(0.2, go_on.set).start()
    else:
        go_on.set()
        until(lambda: counted(control) == 42)
    one.stop(5)
    assert counted(control) == 42


def test_the_last_words_wait_for_a_control_plane_that_is_about_to_listen(path: Path) -> None:
    one = Sender(lambda: Link(path), WHO, 5)
    one.start()
    one.offer(report(delta(5)))
    stopping = threading.Thread(target=one.stop, args=(20,))
    stopping.start()
    time.sleep(0.2)
    with ControlPlane(path) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        stopping.join(20)
        assert counted(server) == 5
        server.shutdown()


def test_a_thread_that_is_stuck_is_said_to_be_behind_and_sends_all_at_once(
    control: ControlPlane, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "_RETRY_S", 60.0)
    control.answer = lambda one: (400 if one.number == 2 else 200, {"error": "which is no trouble to others"})
    one = Sender(lambda: Link(path), WHO, 5)
    seen = [one.behind]
    for minute in range(1, 5):
        one.offer(report(delta(minute), at_s=60 * minute))
    seen.append(one.behind)
    one.start()
    until(lambda: counted(control) == 10)
    assert [each.to_ms // 60_000 for each in control.received] == [1, 2, 3, 4]
    assert [*seen, one.behind] == [False, True, False]
    one.stop(5)


def test_who_has_nothing_to_send_sleeps(
    control: ControlPlane, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Sender._work
    woken: list[int] = []

    def note(self: Sender) -> None:
        woken.append(1)
        work(self)

    monkeypatch.setattr(Sender, "_work", note)
    sender.offer(report(delta(3)))
    until(lambda: counted(control) == 3)
    time.sleep(0.1)
    assert len(woken) == 1
    sender.stop(5)
    assert not sender._thread.is_alive(), "it is woken for the end"


def test_who_ends_does_not_wait_for_an_answer_that_does_not_come(control: ControlPlane, path: Path) -> None:
    go_on = threading.Event()

    def answer(_: Snapshot) -> Answer:
        go_on.wait(10)
        return 200, {}

    control.answer = answer
    one = Sender(lambda: Link(path), WHO, 5)
    one.start()
    one.offer(report(delta(1)))
    until(lambda: len(control.received) == 1)
    one.stop(0.1)
    assert one._thread.is_alive()
    go_on.set()
    one._thread.join()


def test_what_cannot_be_helped_ends_neither_the_thread_nor_goes_on_for_ever(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def connect() -> Link:
        tried.append(1)
        raise ValueError("nobody thought of this")

    tried: list[int] = []
    one = Sender(connect, WHO, 5)
    one.start()
    one.offer(report(delta(3)))
    until(lambda: "nobody thought of this" in caplog.text)
    one.stop(0.3)
    one._thread.join(5)
    assert not one._thread.is_alive() and 2 <= len(tried) <= 6


def test_profiles_may_be_wanted_one_after_the_other(control: ControlPlane, sender: Sender) -> None:
    other = PROFILE.model_copy(update={"description": "another one"})
    both = [PROFILE.digest(), other.digest()]

    def answer(one: Snapshot) -> Answer:
        return 200, {"wanted": [digest for digest in both if digest not in one.profiles][:1]}

    control.answer = answer
    mine = report(delta(3))
    mine.profiles = {PROFILE.digest(): PROFILE, other.digest(): other}
    sender.offer(mine)
    until(lambda: len(control.received) == 3)
    assert control.received[2].profiles.keys() == set(both)


def test_a_profile_that_is_wanted_again_and_again_ends_with_its_snapshot(
    control: ControlPlane, sender: Sender
) -> None:
    control.answer = lambda one: (200, {"wanted": [PROFILE.digest()] if one.number == 1 else []})
    sender.offer(report(delta(3)))
    until(lambda: len(control.received) == 2)
    sender.offer(report(delta(4)))
    until(lambda: [one.number for one in control.received] == [1, 1, 2])
