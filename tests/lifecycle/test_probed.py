"""What is remembered of versions that passed a test load: whole markers count, and not too many of them."""

import errno
import fcntl
import os
import platform
import pwd
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import NoReturn

import pytest

from fastserve.lifecycle import probed
from fastserve.registry import VersionRecord


@pytest.mark.parametrize("content", [b"", b"pass", b"passed\nand more", b"\0" * 7])
def test_a_torn_marker_means_nothing(tmp_path: Path, content: bytes) -> None:
    with probed.marker(tmp_path, "key", 1.0) as marker:
        assert not marker.passed()
        marker.remember()
        assert marker.passed()
    (tmp_path / "key").write_bytes(content)
    with probed.marker(tmp_path, "key", 1.0) as marker:
        assert not marker.passed()


def test_another_runtime_or_machine_tests_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def key(model: str = "m", version: int = 1) -> str:
        probed._release.cache_clear()
        record = VersionRecord(model, version, tmp_path / "m/1/model.onnx", None)
        return probed.fingerprint(record, tmp_path, verified=True)

    keys = {key(), key("n"), key(version=2)}
    with monkeypatch.context() as other:
        other.setattr(platform, "machine", lambda: "riscv64")
        keys.add(key())
    with monkeypatch.context() as other:
        other.setattr(metadata, "version", lambda _: "99.0")
        keys.add(key())
    assert len({*keys, key()}) == 5


def test_a_marker_is_let_go(tmp_path: Path) -> None:
    with probed.marker(tmp_path, "key", 1.0):
        pass
    with (tmp_path / "key").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    opened = os.listdir("/proc/self/fd")
    assert not probed.has_passed(tmp_path, "key")
    assert os.listdir("/proc/self/fd") == opened


def test_a_file_system_without_locks_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: int) -> NoReturn:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    began_s = time.monotonic()
    with probed.marker(tmp_path, "key", 60.0) as marker:
        marker.remember()
    assert time.monotonic() - began_s < 30


def test_a_user_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as a number without a name."""
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert probed.own_cache() == tmp_path / f"fastserve-{os.geteuid()}-probed"


def test_a_relative_cache_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the XDG specification has it; it would be another one in each directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert probed.own_cache() == tmp_path / "home/.cache/fastserve/probed"


def test_markers_go_where_this_user_alone_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert probed.own_cache() == tmp_path / "fastserve/probed"
    other = tmp_path / f"fastserve-{os.geteuid()}-probed"
    for mode in (0o720, 0o702):  # others could have written what lies there
        (tmp_path / "fastserve/probed").chmod(mode)
        assert probed.own_cache() == other
    assert other.stat().st_mode & 0o777 == 0o700
    other.rmdir()
    other.symlink_to(tmp_path)
    assert probed.own_cache() is None
    other.unlink()
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    (tmp_path / "fastserve/probed").chmod(0o700)
    assert probed.own_cache() is None, "somebody else has made it"


def test_a_full_disk_stops_no_load() -> None:
    descriptor = os.open("/dev/full", os.O_RDWR)
    probed.Marker(descriptor).remember()
    os.close(descriptor)


def test_too_many_markers_are_trimmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probed, "_MAX_MARKERS", 9)
    for number in range(10):
        (tmp_path / str(number)).touch()
        os.utime(tmp_path / str(number), (number, number))
    probed.trim(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set("56789")
