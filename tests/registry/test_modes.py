"""Who may read the registry's small files: whoever could before, whoever changed them and under which umask."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastserve.registry import Registry

NAMES = ("aliases.json", ".audit-head", "profiles/1.json")
_SOMEBODY = 65_534 if os.geteuid() == 0 else os.geteuid()
_THEIRS = 65_534 if os.geteuid() == 0 else os.getegid()


@pytest.fixture
def strict() -> Iterator[None]:
    """What root has on a hardened machine."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("strict")
def test_a_file_keeps_its_readers(published: Registry) -> None:
    change(published, "a")
    files = [published.path / "m" / name for name in NAMES]
    for file in files:
        assert file.stat().st_mode & 0o777 == 0o600
        file.chmod(0o640)
        os.chown(file, _SOMEBODY, _THEIRS)
    change(published, "b")
    for file in files:
        found = file.stat()
        assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (0o640, _SOMEBODY, _THEIRS)
    assert published.check_audit("m") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")
def test_a_file_keeps_its_group_where_another_of_the_group_replaces_it(published: Registry) -> None:
    change(published, "a")
    for path in (published.path, *published.path.rglob("*")):
        os.chown(path, 65_534, 65_533)
        path.chmod(0o770 if path.is_dir() else 0o660)
    child = os.fork()
    if child == 0:
        try:
            os.chdir(published.path)  # the way there is root's own
            os.setgroups([65_533])
            os.setresgid(65_532, 65_532, 65_532)
            os.setresuid(65_532, 65_532, 65_532)
            change(Registry(Path()), "b")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert published.state("m").aliases["b"] == 1
    for file in (published.path / "m" / name for name in NAMES):
        found = file.stat()
        assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (0o660, 65_532, 65_533)


def change(registry: Registry, word: str) -> None:
    registry.set_alias("m", word, 1)
    registry.add_profile("m", 1, word.encode(), replace=True)


def test_a_file_in_the_place_of_a_link_is_not_everybodys(published: Registry) -> None:
    """The mode of a link says that all may write."""
    (published.path / "shared.json").write_text("{}")
    aliases = published.path / "m/aliases.json"
    aliases.symlink_to("../shared.json")
    published.set_alias("m", "champion", 1)
    assert aliases.lstat().st_mode == (published.path / "shared.json").stat().st_mode
