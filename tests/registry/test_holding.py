"""Holds: what is served or staged stays, and nobody has to clean up after a process that died."""

import ctypes
import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastserve.errors import ModelNotFound, VersionNotFound
from fastserve.registry import Registry, holding
from fastserve.registry.holding import alone, hold_directory
from tests.registry.conftest import glance

HOLDER = """
import sys, time
from pathlib import Path
from fastserve.registry import Registry
held = Registry(Path(sys.argv[1])).hold("m", 1)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def three(published: Registry, onnx_file: Path) -> Registry:
    for _ in range(2):
        published.publish("m", onnx_file, inspect=glance)
    return published


@pytest.fixture
def holder(three: Registry) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds version 1."""
    command = [sys.executable, "-c", HOLDER, str(three.path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def removed(registry: Registry) -> list[str]:
    return [one.what for one in registry.gc(1)]


@pytest.mark.parametrize("another", [False, True], ids=["gone", "another in its place"])
def test_a_version_that_is_collected_as_it_is_held_leaves_nothing_open(
    three: Registry, monkeypatch: pytest.MonkeyPatch, another: bool
) -> None:
    path = three.path / "m" / "1"

    def collected(descriptor: int) -> bool:
        path.rename(path.with_name(".trash-1"))
        if another:
            path.mkdir()
        return True

    monkeypatch.setattr(holding, "_share", collected)
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(VersionNotFound):
        holding.hold(path)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_held_version_stays(three: Registry) -> None:
    with three.hold("m", 1) as held:
        assert held.is_real
        assert removed(three) == ["2"]
        assert three.versions("m") == [1, 3]
        three.verify("m", 1)
    assert removed(three) == ["1"]


def test_two_holders(three: Registry) -> None:
    first, second = three.hold("m", 1), three.hold("m", 1)
    first.close()
    assert removed(three) == ["2"]
    second.close()
    assert removed(three) == ["1"]


def test_closed_twice(three: Registry) -> None:
    held = three.hold("m", 1)
    held.close()
    assert not held.is_real
    again = three.hold("m", 2)  # likely has the descriptor that was just closed
    held.close()
    assert removed(three) == ["1"]
    again.close()
    assert removed(three) == ["2"]


def test_another_process_holds_until_it_is_killed(three: Registry, holder: subprocess.Popen[str]) -> None:
    assert removed(three) == ["2"]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert removed(three) == ["1"]


@pytest.mark.parametrize("version", [4, 0, -1])
def test_a_version_that_is_not_there(three: Registry, version: int) -> None:
    with pytest.raises(VersionNotFound):
        three.hold("m", version)


def test_a_model_that_is_not_there(three: Registry) -> None:
    with pytest.raises(ModelNotFound):
        three.hold("../m", 1)


def test_a_version_that_is_collected_while_it_is_asked_for(
    three: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening the directory and the lock on it the collector comes."""
    share = holding._share

    def late(descriptor: int) -> bool:
        assert "1" in removed(three)
        return share(descriptor)

    monkeypatch.setattr(holding, "_share", late)
    with pytest.raises(VersionNotFound):
        three.hold("m", 1)


def test_a_version_that_another_takes_the_place_of(three: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    share = holding._share

    def late(descriptor: int) -> bool:
        removed(three)
        (three.path / "m/1").mkdir()
        return share(descriptor)

    monkeypatch.setattr(holding, "_share", late)
    with pytest.raises(VersionNotFound):
        three.hold("m", 1)


def test_a_failed_hold_leaves_no_descriptor(three: Registry) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            hold_directory(three.path / "m/9")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_system_without_locks(
    three: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unknown(descriptor: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    def hold() -> None:
        with holding.hold(three.path / "m/1") as held:
            assert not held.is_real

    def another_thread(_: logging.LogRecord) -> bool:
        holding.log.removeFilter(another_thread)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(hold).result()
        return True

    monkeypatch.setattr(fcntl, "flock", unknown)
    monkeypatch.setattr(holding, "_said", threading.Lock())
    holding.log.addFilter(another_thread)  # while it is being said
    hold()
    hold()
    (said,) = caplog.messages
    assert said.startswith("the registry's file system knows no locks (Operation not supported): ")
    with alone(three.path / "m/1") as is_free:
        assert not is_free  # nobody can tell, so nothing is collected


def test_in_a_directory_without_write_permission(three: Registry) -> None:
    version = three.path / "m/1"
    version.chmod(0o555)
    try:
        with three.hold("m", 1) as held:
            assert held.is_real
            assert removed(three) == ["2"]
    finally:
        version.chmod(0o755)


def test_on_a_read_only_file_system(three: Registry, tmp_path: Path) -> None:
    """A bind mount of the registry, read-only, holds what lies below it."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    bind, remount, read_only = 4096, 32, 1
    if libc.mount(str(three.path).encode(), str(mounted).encode(), None, bind, None):
        pytest.skip("this machine does not let root mount")
    try:
        if libc.mount(None, str(mounted).encode(), None, bind | remount | read_only, None):
            pytest.skip("this machine does not let root mount read-only")
        with pytest.raises(OSError, match=r"Read-only"):
            (mounted / "m/1/file").touch()
        with Registry(mounted).hold("m", 1) as held:
            assert held.is_real
            assert removed(three) == ["2"]
    finally:
        libc.umount2(str(mounted).encode(), 2)
