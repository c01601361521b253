"""Collecting: old versions go, what is in use stays, numbers never come back, strangers are left alone."""

import errno
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from fastserve.errors import ModelNotFound, RegistryError
from fastserve.registry import Registry, audit, collecting, files
from fastserve.registry.audit import AuditLog
from fastserve.registry.holding import hold_directory
from fastserve.registry.state import ModelState
from tests.registry.conftest import SIGNATURE, glance, tree


@pytest.fixture
def five(registry: Registry, onnx_file: Path) -> Registry:
    for _ in range(5):
        registry.publish("m", onnx_file, inspect=glance)
    return registry


def collected(registry: Registry, keep: int, **options: Any) -> list[str]:
    return [one.what for one in registry.gc(keep, **options)]


def shot(path: Path) -> dict[str, tuple[int, int]]:
    """Everything below, with inode and time of its last change: what was touched differs."""
    return {str(one): (one.lstat().st_ino, one.lstat().st_mtime_ns) for one in [path, *path.rglob("*")]}


def foreign(path: Path, *versions: int) -> Registry:
    """A tree that something else wrote: no manifest, no log."""
    for version in versions:
        (path / "m" / str(version)).mkdir(parents=True)
        (path / "m" / str(version) / "model.onnx").write_bytes(b"model")
    return Registry(path)


def test_the_newest_stay(five: Registry) -> None:
    size = sum(file.stat().st_size for file in (five.path / "m/1").iterdir())
    removed = five.gc(2)
    assert [one.what for one in removed] == ["1", "2", "3"]
    assert removed[0].model == "m"
    assert removed[0].bytes == size
    assert removed[0].why == "older than the newest 2, no alias, not in use"
    assert five.versions("m") == [4, 5]
    assert five.check_audit("m") == []
    lines = [(line.event, line.details) for line in five.audit("m")][5:]
    assert lines == [("gc", {"version": version}) for version in (1, 2, 3)]
    assert not [name for name in os.listdir(five.path / "m") if name.startswith(".trash-")]
    assert five.gc(2) == []


@pytest.mark.parametrize("say", [lambda r: r.archive("m", 1, True), lambda r: r.tag("m", 1, "stage", "old")])
def test_what_is_said_of_a_collected_version_goes_with_it(five: Registry, say: Any) -> None:
    say(five)
    five.gc(4)
    assert five.state("m") == ModelState()


@pytest.mark.parametrize("keep", [0, -1])
def test_something_must_stay(five: Registry, keep: int) -> None:
    with pytest.raises(RegistryError, match=r"at least one version"):
        five.gc(keep)
    assert five.versions("m") == [1, 2, 3, 4, 5]


def test_more_than_there_are(five: Registry) -> None:
    before = shot(five.path)
    assert five.gc(5) == five.gc(99) == []
    assert shot(five.path) == before


def test_what_an_alias_points_to_stays(five: Registry) -> None:
    five.set_alias("m", "champion", 2)
    five.set_alias("m", "challenger", 3)
    five.remove_alias("m", "challenger")
    assert collected(five, 1) == ["1", "3", "4"]
    assert five.versions("m") == [2, 5]
    five.verify("m", 2)


def test_an_archived_version_goes_like_others_and_keeps_no_place(five: Registry) -> None:
    for version in (1, 4, 5):
        five.archive("m", version, True)
    five.tag("m", 1, "stage", "old")
    five.tag("m", 5, "stage", "new")
    assert collected(five, 1) == ["1", "2", "4"], "3 is the newest that can be served"
    state = five.state("m")
    assert state.archived == {5}
    assert dict(state.tags) == {5: {"stage": "new"}}
    assert five.check_audit("m") == []


def test_one_model_only(five: Registry, onnx_file: Path) -> None:
    for _ in range(2):
        five.publish("other", onnx_file, inspect=glance)
    assert {one.model for one in five.gc(1, "m")} == {"m"}
    assert five.versions("other") == [1, 2]
    assert [(one.model, one.what) for one in five.gc(1)] == [("other", "1")]
    with pytest.raises(ModelNotFound):
        five.gc(1, "none")


def test_no_number_comes_back(five: Registry, onnx_file: Path) -> None:
    five.gc(1)
    shutil.rmtree(five.path / "m/5")
    assert five.versions("m") == []
    assert five.gc(1) == []
    assert five.publish("m", onnx_file, inspect=glance) == 6
    assert five.check_audit("m") == []


def test_strangers_are_left_alone(five: Registry) -> None:
    beside = ["m/007", "m/notes", "m/2.bak", "m/.git", "m/0", ".hidden"]
    for name in beside:
        (five.path / name).mkdir()
        (five.path / name / "model.onnx").write_bytes(b"mine")
    (five.path / "m/3/model.onnx").unlink()  # no version: not whole, perhaps still being copied
    (five.path / "m/README").write_text("mine")
    assert collected(five, 1) == ["1", "2", "4"]
    for name in beside:
        assert (five.path / name / "model.onnx").read_bytes() == b"mine"
    assert (five.path / "m/README").exists()
    assert (five.path / "m/3/manifest.json").exists()


def test_a_linked_version_is_left_alone(five: Registry, tmp_path: Path) -> None:
    shutil.move(five.path / "m/1", five.path / "elsewhere")
    (five.path / "m/1").symlink_to("../elsewhere")
    assert five.versions("m") == [1, 2, 3, 4, 5]
    assert collected(five, 1) == ["2", "3", "4"]
    assert (five.path / "elsewhere/model.onnx").exists()


def test_what_a_link_leads_to_stays_as_long_as_the_link(tmp_path: Path) -> None:
    registry = foreign(tmp_path, 1, 2, 3, 4, 5)
    (tmp_path / "m/4/own").symlink_to("model.onnx")
    (tmp_path / "m/6").symlink_to("1")
    (tmp_path / "m/5/model.onnx").unlink()
    (tmp_path / "m/5/model.onnx").symlink_to("../2/model.onnx")
    (tmp_path / "n").mkdir()
    (tmp_path / "n/1").symlink_to("../m/3")
    (tmp_path / "n/2").symlink_to("2")
    assert collected(registry, 1, model="m") == ["4", "5"]
    assert collected(registry, 1, model="m") == ["2"]
    (tmp_path / "m/6").unlink()
    assert registry.versions("m") == [1, 3]
    assert collected(registry, 1) == ["1"]
    assert (registry.versions("m"), registry.versions("n")) == ([3], [1])


def test_what_links_lead_over_stays_too(tmp_path: Path) -> None:
    registry = foreign(tmp_path, 1, 2, 3, 4)
    for version in (2, 3):
        (tmp_path / f"m/{version}/model.onnx").unlink()
        (tmp_path / f"m/{version}/model.onnx").symlink_to(f"../{version - 1}/model.onnx")
    assert collected(registry, 2) == []
    assert registry.versions("m") == [1, 2, 3, 4]


@pytest.mark.parametrize(("link", "target"), [("own/words", "../../1/words"), ("words", "../1/more/words")])
def test_links_in_directories_and_into_some_count(tmp_path: Path, link: str, target: str) -> None:
    registry = foreign(tmp_path, 1, 2)
    for directory in ("1/more", "2/own"):
        (tmp_path / "m" / directory).mkdir()
    (tmp_path / "m/2" / link).symlink_to(target)
    assert collected(registry, 1) == []


def test_what_was_protected_by_hand_goes_too(five: Registry) -> None:
    """By its owner: root needs no permission, so it is done as somebody else where root runs this."""
    (five.path / "m/1/more").mkdir()
    (five.path / "m/1/more/words").touch()
    if os.geteuid() == 0:
        for path in (five.path, *five.path.rglob("*")):
            os.chown(path, 65_534, 65_534)
    for path in (five.path / "m/1/more", five.path / "m/1"):
        path.chmod(0o555)
    child = os.fork()
    if child == 0:
        try:
            descriptor = os.open(five.path, os.O_RDONLY)
            os.fchdir(descriptor)  # the way there is root's own
            if os.geteuid() == 0:
                os.setuid(65_534)
            Registry(Path()).gc(4)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert not [name for name in os.listdir(five.path / "m") if name.startswith(".trash-")]
    assert five.versions("m") == [2, 3, 4, 5]


def test_a_leftover_that_is_a_link_goes_alone(five: Registry, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_bytes(b"x" * 5_000)
    for prefix in (".staging-", ".trash-", ".tmp-"):
        (five.path / "m" / f"{prefix}1").symlink_to(elsewhere)
    removed = [(one.what, one.bytes) for one in five.gc(5)]
    assert removed == [(name, len(str(elsewhere))) for name in (".staging-1", ".tmp-1", ".trash-1")]
    assert (elsewhere / "file").exists()
    assert not [name for name in tree(five.path / "m") if name.startswith((".s", ".t"))]


def test_a_dry_run_writes_nothing(five: Registry) -> None:
    (five.path / "m/.staging-1-ab").mkdir()
    (five.path / "m/.tmp-1").write_bytes(b"12345")
    five.set_alias("m", "champion", 1)
    before = shot(five.path)
    said = five.gc(2, dry_run=True)
    assert [(one.what, one.why) for one in said][:2] == [
        (".staging-1-ab", "a publisher died"),
        (".tmp-1", "a writer died"),
    ]
    assert said[1].bytes == 5
    assert shot(five.path) == before
    assert five.gc(2) == said


@pytest.mark.parametrize("dry_run", [False, True])
def test_nothing_to_do_writes_nothing(tmp_path: Path, dry_run: bool) -> None:
    registry = foreign(tmp_path / "foreign", 1, 2)
    (tmp_path / "foreign/empty").mkdir()
    before = shot(registry.path)
    assert registry.gc(2, dry_run=dry_run) == []
    with registry.hold("m", 1):
        assert registry.gc(1, dry_run=dry_run) == []
    assert shot(registry.path) == before


def test_a_foreign_tree(tmp_path: Path, onnx_file: Path) -> None:
    registry = foreign(tmp_path / "foreign", 1, 2, 10)
    assert collected(registry, 1) == ["1", "2"]
    assert registry.check_audit("m") == []
    assert registry.publish("m", onnx_file, inspect=glance) == 11


def test_a_publisher_at_work_is_left_alone(five: Registry, onnx_file: Path) -> None:
    def slow(path: Path) -> Any:
        assert collected(five, 5) == []
        assert path.exists()
        return SIGNATURE

    assert five.publish("m", onnx_file, inspect=slow) == 6
    five.verify("m", 6)


def test_what_is_published_with_an_alias_stays_until_it_has_it(
    five: Registry, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the version and its alias two newer ones come, and the collector."""

    def step(name: str) -> None:
        if name == "aliases.json: opened":
            monkeypatch.setattr(files, "on_step", None)
            other = Registry(five.path)
            shutil.copytree(five.path / "m/6", five.path / "m/7")
            found = [one.what for one in other.gc(1, dry_run=True)]
            assert "6" not in found
            assert "5" in found

    monkeypatch.setattr(files, "on_step", step)
    assert five.publish("m", onnx_file, inspect=glance, alias="champion") == 6
    assert files.on_step is None


def test_a_collector_right_after_the_staging_is_made(
    registry: Registry, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the publisher holds what it has made, it looks like a dead one's."""
    seen: list[str] = []

    def step(name: str) -> None:
        if name == ".staging-: made" and not seen:
            seen.extend(collected(Registry(registry.path), 1))

    monkeypatch.setattr(files, "on_step", step)
    assert registry.publish("m", onnx_file, inspect=glance) == 1
    assert len(seen) == 1
    registry.verify("m", 1)
    assert registry.gc(1) == []


def test_what_is_about_to_be_deleted_cannot_be_held_any_more(
    five: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting goes without the lock: a publisher must not begin to work in what is being deleted."""
    staging = five.path / "m/.staging-1-ab"
    staging.mkdir()
    delete, asked = collecting._delete, []

    def late(path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            hold_directory(staging)
        asked.append(path)
        delete(path)

    monkeypatch.setattr(collecting, "_delete", late)
    assert collected(five, 5) == [staging.name]
    assert len(asked) == 1
    assert not asked[0].exists()


def test_leftovers_that_vanish_meanwhile(five: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two collectors, or a publisher that fails, at the same time."""
    for name in (".trash-1", ".staging-1", ".tmp-1"):
        (five.path / "m" / name).touch()
    leftovers = collecting._leftovers

    def late(directory: Path) -> Any:
        found = list(leftovers(directory))
        for path, _ in found:
            path.unlink()
        return found

    monkeypatch.setattr(collecting, "_leftovers", late)
    assert collected(five, 4) == ["1"]


def test_two_collectors_at_once(registry: Registry, onnx_file: Path) -> None:
    for _ in range(20):
        registry.publish("m", onnx_file, inspect=glance)
    removed: list[str] = []
    threads = [threading.Thread(target=lambda: removed.extend(collected(registry, 1))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = [int(what) for what in removed if not what.startswith(".")]
    assert sorted(versions) == list(range(1, 20))
    assert registry.versions("m") == [20]
    assert registry.check_audit("m") == []


def test_a_full_disk_still_frees_the_leftovers(five: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    (five.path / "m/.staging-1").mkdir()

    def full(self: AuditLog, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(audit.AuditLog, "_append", full)
        with pytest.raises(RegistryError, match=r"model 'm' cannot be cleaned up: No space left"):
            five.gc(1)
    assert not (five.path / "m/.staging-1").exists()
    assert five.versions("m") == [1, 2, 3, 4, 5]
    assert five.check_audit("m") == []
    assert collected(five, 1) == ["1", "2", "3", "4"]
