"""What is remembered of versions that passed a test load: whole markers count, and not too many of them."""

import os
import platform
from importlib import metadata
from pathlib import Path

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


def test_a_relative_cache_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the XDG specification has it; it would be another one in each directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert probed.own_cache() == tmp_path / "home/.cache/fastserve/probed"


def test_too_many_markers_are_trimmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probed, "_MAX_MARKERS", 9)
    for number in range(10):
        (tmp_path / str(number)).touch()
        os.utime(tmp_path / str(number), (number, number))
    probed.trim(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set("56789")
