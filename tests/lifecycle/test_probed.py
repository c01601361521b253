"""What is remembered of versions that passed a test load: whole markers count, and not too many of them."""

import os
from pathlib import Path

import pytest

from fastserve.lifecycle import probed


@pytest.mark.parametrize("content", [b"", b"pass", b"passed\nand more", b"\0" * 7])
def test_a_torn_marker_means_nothing(tmp_path: Path, content: bytes) -> None:
    with probed.marker(tmp_path, "key", 1.0) as marker:
        assert not marker.passed()
        marker.remember()
        assert marker.passed()
    (tmp_path / "key").write_bytes(content)
    with probed.marker(tmp_path, "key", 1.0) as marker:
        assert not marker.passed()


def test_too_many_markers_are_trimmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probed, "_MAX_MARKERS", 9)
    for number in range(10):
        (tmp_path / str(number)).touch()
        os.utime(tmp_path / str(number), (number, number))
    probed.trim(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set("56789")
