"""Changes are noticed when the file system announces them, whatever became of the directories meanwhile."""

import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastserve.lifecycle import LifecycleOptions, Scanner, Watcher, Wish
from fastserve.registry import Registry
from tests import models
from tests.registries import publish
from tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is announced is the system's business")

SELDOM = LifecycleOptions(poll_s=3_600)
"""Who looks once an hour notices nothing in a test by looking."""
OFTEN = LifecycleOptions(poll_s=0.1)


class Watched(Scanner):
    """How often a watcher has looked, and what it has told of the model `m`."""

    def __init__(self, root: Path, options: LifecycleOptions) -> None:
        super().__init__(Registry(root), options)
        self.looks = 0
        self.failure: Exception | None = None
        """What the next look fails with."""
        self.deaf: Exception | None = None
        """What whoever is told next fails with."""
        self.versions: tuple[int, ...] = ()
        self.watcher = Watcher(self, root, options, self._tell)

    def scan(self) -> dict[str, Wish]:
        self.looks += 1
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        return super().scan()

    def looks_on(self) -> None:
        """Wait for a few looks more."""
        enough = self.looks + 3
        until(lambda: self.looks >= enough)

    def _tell(self, wishes: Mapping[str, Wish]) -> None:
        failure, self.deaf = self.deaf, None
        if failure is not None:
            raise failure
        self.versions = wishes["m"].versions if "m" in wishes else ()


@contextmanager
def watched(root: Path, options: LifecycleOptions = SELDOM) -> Iterator[Watched]:
    one = Watched(root, options)
    one.watcher.start()
    try:
        yield one
    finally:
        one.watcher.stop()


def add_version(root: Path) -> None:
    publish(Registry(root), "m", models.scaled())


def test_a_models_directory_that_was_replaced_is_watched_on(tmp_path: Path) -> None:
    root = tmp_path / "registry"
    add_version(root)
    shutil.copytree(root / "m", tmp_path / "copy")
    with watched(root) as one:
        until(lambda: one.versions == (1,))
        (root / "m").rename(tmp_path / "old")
        (tmp_path / "copy").rename(root / "m")
        add_version(root)
        until(lambda: one.versions == (2, 1))
        add_version(root)
        until(lambda: one.versions == (3, 2, 1))


def test_a_registry_behind_a_link_that_is_moved_is_watched_on(tmp_path: Path) -> None:
    first, second, link = tmp_path / "first", tmp_path / "second", tmp_path / "link"
    add_version(first)
    add_version(second)
    add_version(second)
    link.symlink_to(first)
    with watched(link) as one:
        until(lambda: one.versions == (1,))
        (tmp_path / "new").symlink_to(second)
        (tmp_path / "new").rename(link)
        one.watcher.look()
        until(lambda: one.versions == (2, 1))
        add_version(second)
        until(lambda: one.versions == (3, 2, 1))


def test_a_version_of_other_hands_is_taken_once_it_has_settled(tmp_path: Path) -> None:
    """Nothing announces that nothing more is written."""
    add_version(tmp_path)
    with watched(tmp_path, SELDOM.model_copy(update={"settle_s": 0.1})) as one:
        until(lambda: one.versions == (1,))
        (tmp_path / "m" / "2").mkdir()
        until(lambda: tmp_path / "m" / "2" in one.waiting(), 20)
        shutil.copy(tmp_path / "m" / "1" / "model.onnx", tmp_path / "m" / "2")
        until(lambda: one.versions == (2, 1), 20)


def test_a_change_is_noticed_long_after_the_start(tmp_path: Path) -> None:
    add_version(tmp_path)
    with watched(tmp_path) as one:
        until(lambda: one.looks == 2)  # it looks once more as soon as changes are announced
        add_version(tmp_path)
        until(lambda: one.versions == (2, 1), 20)


def test_nobody_looks_more_often_than_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastserve.lifecycle.watch._UNSETTLED_S", 0.01)
    add_version(tmp_path)
    with watched(tmp_path) as one:
        for looks in (2, 3):
            until(lambda: one.looks >= looks)  # noqa: B023
            time.sleep(0.2)
            assert one.looks == looks
            one.watcher.look()


@pytest.mark.parametrize("failure", [None, ValueError("nobody has thought of this")])
def test_a_registry_that_is_not_there_is_waited_for_in_peace(
    tmp_path: Path, failure: Exception | None
) -> None:
    one = Watched(tmp_path / "registry", SELDOM)
    one.failure = failure
    one.watcher.start()
    for looks in (1, 2) if failure is None else (1,):
        until(lambda: one.looks >= looks)  # noqa: B023
        time.sleep(0.1)
        assert one.looks == looks
        one.watcher.look()
    ending = threading.Thread(target=one.watcher.stop, daemon=True)
    ending.start()
    ending.join(20)
    assert not ending.is_alive(), "nobody waits an hour for it"


def test_who_fails_as_he_is_told_is_told_again(tmp_path: Path) -> None:
    add_version(tmp_path)
    one = Watched(tmp_path, OFTEN)
    one.deaf = MemoryError()
    one.watcher.start()
    try:
        until(lambda: one.versions == (1,), 20)
    finally:
        one.watcher.stop()


def test_whatever_happens_the_registry_stays_watched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add_version(tmp_path)
    with watched(tmp_path, OFTEN) as one:
        until(lambda: one.versions == (1,))
        one.failure = ValueError("nobody has thought of this")
        until(lambda: "nobody has thought of this" in caplog.text)
        add_version(tmp_path)
        until(lambda: one.versions == (2, 1), 20)


def test_a_registry_that_cannot_be_read_is_told_of_once_and_what_is_served_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, away = tmp_path / "registry", tmp_path / "away"
    add_version(root)
    with watched(root, OFTEN) as one:

        def goes_for_a_while() -> int:
            """Give how often that has been told of so far."""
            before = one.versions
            root.rename(away)
            one.looks_on()
            assert one.versions == before
            away.rename(root)
            return caplog.text.count("what is served stays")

        until(lambda: one.versions == (1,))
        assert goes_for_a_while() == 1
        add_version(root)
        until(lambda: one.versions == (2, 1))
        assert goes_for_a_while() == 2


def test_a_system_that_announces_nothing_is_looked_at_every_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def watch(*_directories: Path, **_options: object) -> None:
        raise OSError("no descriptor is left")

    monkeypatch.setattr("fastserve.lifecycle.watch.watch", watch)
    monkeypatch.setattr("fastserve.lifecycle.watch._BLIND_S", 0.01)
    add_version(tmp_path)
    with watched(tmp_path, OFTEN) as one:
        until(lambda: one.versions == (1,))
        add_version(tmp_path)
        until(lambda: one.versions == (2, 1), 20)
        one.looks_on()
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    assert "(no descriptor is left); it is scanned every 0.1 s" in caplog.text
