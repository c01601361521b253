"""Changes are noticed when the file system announces them, whatever became of the directories meanwhile."""

import shutil
import sys
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

OPTIONS = LifecycleOptions(poll_s=3_600)
"""Who looks once an hour notices nothing in a test by looking."""


class Watched:
    """What a watcher has told of the model `m`."""

    def __init__(self, root: Path) -> None:
        self.versions: tuple[int, ...] = ()
        self.watcher = Watcher(Scanner(Registry(root), OPTIONS), root, OPTIONS, self._tell)

    def _tell(self, wishes: Mapping[str, Wish]) -> None:
        self.versions = wishes["m"].versions if "m" in wishes else ()


@contextmanager
def watched(root: Path) -> Iterator[Watched]:
    one = Watched(root)
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
