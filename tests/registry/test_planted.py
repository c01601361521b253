"""Links and pipes that somebody has put where a writer writes: nothing elsewhere is touched, nobody waits."""

import os
from pathlib import Path

import pytest

from fastserve.errors import RegistryError
from fastserve.registry import Registry


@pytest.mark.parametrize("make", ["link", "hard link", "pipe"])
def test_in_the_place_of_the_next_head(published: Registry, tmp_path: Path, make: str) -> None:
    mine, planted = tmp_path / "mine", published.path / "m/.audit-head.new"
    mine.write_bytes(b"mine")
    {
        "link": lambda: planted.symlink_to(mine),
        "hard link": lambda: planted.hardlink_to(mine),
        "pipe": lambda: os.mkfifo(planted),
    }[make]()
    published.set_alias("m", "champion", 1)
    assert mine.read_bytes() == b"mine"
    assert not (published.path / "m/.audit-head").is_symlink()
    assert published.check_audit("m") == []


def test_in_the_place_of_the_lock(published: Registry, tmp_path: Path) -> None:
    lock = published.path / "m/.lock"
    lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RegistryError, match=r"^model 'm' cannot be changed: "):
        published.set_alias("m", "champion", 1)
    assert not (tmp_path / "elsewhere").exists()
