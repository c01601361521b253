"""Publishing where the disk is full or read-only, the clock is wrong, and others publish at the same time."""

import ctypes
import errno
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest

from fastserve.errors import ModelRejected, RegistryError
from fastserve.registry import Registry, chain, files, publishing
from tests import models
from tests.registry.conftest import SIGNATURE, glance, tree

PAGE_BYTES = 4096
SIZE_BYTES = 256 * 1024
READ_ONLY, REMOUNT, DETACH = 1, 32, 2

Mount = Callable[[int, str], None]


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    """Mount, or remount, a tmpfs on a directory; what it cannot do skips the test."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    libc = ctypes.CDLL(None, use_errno=True)

    def do(flags: int, options: str) -> None:
        if libc.mount(b"tmpfs", str(tmp_path / "disk").encode(), b"tmpfs", flags, options.encode()):
            reason = os.strerror(ctypes.get_errno())
            pytest.skip(f"this machine does not let root mount a tmpfs: {reason}")

    return do


@pytest.fixture
def disk(tmp_path: Path, mount: Mount) -> Iterator[Path]:
    """A file system of 256 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount(0, f"size={SIZE_BYTES}")
    yield path
    ctypes.CDLL(None).umount2(str(path).encode(), DETACH)


def fill(path: Path, leave_pages: int) -> None:
    """Take all room but a few pages."""
    path.unlink(missing_ok=True)
    free = os.statvfs(path.parent).f_bavail
    with path.open("wb") as writer:
        writer.write(bytes((free - leave_pages) * PAGE_BYTES))


def check_sound(registry: Registry) -> None:
    assert registry.check_audit("m") == []
    for version in registry.versions("m"):
        registry.verify("m", version)


def with_weights(folder: Path, width: int) -> Path:
    data, raw = models.external_data("weights.bin", width)
    folder.mkdir()
    (folder / "model.onnx").write_bytes(data)
    (folder / "weights.bin").write_bytes(raw)
    return folder / "model.onnx"


def test_a_model_that_does_not_fit(disk: Path, tmp_path: Path, onnx_file: Path) -> None:
    registry = Registry(disk / "registry")
    large = with_weights(tmp_path / "large", 100_000)
    with pytest.raises(RegistryError, match=r"cannot publish to .*: No space left on device"):
        registry.publish("m", large, inspect=glance)
    assert tree(disk) == set()
    assert registry.publish("m", onnx_file, inspect=glance) == 1
    before = tree(disk)
    with pytest.raises(RegistryError, match=r"No space left on device"):
        registry.publish("m", large, inspect=glance)
    assert tree(disk) == before
    assert registry.publish("m", onnx_file, inspect=glance) == 2
    check_sound(registry)


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
def test_a_disk_that_is_full_at_any_page(disk: Path, onnx_file: Path, first: bool) -> None:
    """Model, manifest, log, head, alias: each in turn is what does not fit any more."""
    succeeded = failed = half = 0
    for pages in range(14):
        registry = Registry(disk / str(pages))
        count = 0 if first else 2
        for _ in range(count):
            registry.publish("m", onnx_file, inspect=glance)
        fill(disk / "filler", pages)
        try:
            registry.publish("m", onnx_file, inspect=glance, alias="champion")
            succeeded += 1
        except RegistryError as error:
            assert "No space left on device" in str(error)  # noqa: PT017 - it may also succeed
            half += "is published, but 'champion' does not point to it" in str(error)
            failed += 1
            if "is published" not in str(error) and (disk / str(pages) / "m").exists():
                assert len(registry.versions("m")) == count
        if (disk / str(pages) / "m").exists():
            check_sound(registry)
            assert not [name for name in tree(disk / str(pages)) if ".staging-" in name]
        (disk / "filler").unlink()
        assert registry.publish("m", onnx_file, inspect=glance, alias="champion") >= count + 1
        check_sound(registry)
        assert registry.state("m").aliases["champion"] == registry.versions("m")[-1]
        for name in sorted((disk / str(pages)).rglob("*"), reverse=True):
            name.rmdir() if name.is_dir() else name.unlink()
        (disk / str(pages)).rmdir()
    assert failed >= 4
    assert succeeded >= 1
    assert half >= 1


def test_weights_that_were_cut_off_are_not_published(registry: Registry, tmp_path: Path) -> None:
    source = with_weights(tmp_path / "source", 100)
    os.truncate(source.with_name("weights.bin"), 399)
    with pytest.raises(ModelRejected, match=r"in 'weights.bin', which has 399 bytes"):
        registry.publish("m", source, inspect=glance)
    assert tree(registry.path) == set()


def test_a_full_disk_is_freed_by_collecting(disk: Path, tmp_path: Path, onnx_file: Path) -> None:
    registry = Registry(disk / "registry")
    large = with_weights(tmp_path / "large", 10_000)
    count = 0
    with suppress(RegistryError):
        while count < 20:
            count = registry.publish("m", large, inspect=glance)
    assert 3 <= count < 20
    assert len(registry.gc(1)) == count - 1
    assert registry.publish("m", large, inspect=glance) == count + 1
    check_sound(registry)


def test_a_read_only_registry(disk: Path, mount: Mount, onnx_file: Path) -> None:
    registry = Registry(disk / "registry")
    for _ in range(2):
        registry.publish("m", onnx_file, inspect=glance)
    before = tree(disk)
    mount(REMOUNT | READ_ONLY, f"size={SIZE_BYTES}")
    try:
        for model in ("m", "new"):
            with pytest.raises(RegistryError, match=r"cannot publish to .*: Read-only file system"):
                registry.publish(model, onnx_file, inspect=glance)
        with pytest.raises(RegistryError, match=r"'m' cannot be cleaned up: Read-only file system"):
            registry.gc(1)
        assert [one.what for one in registry.gc(1, dry_run=True)] == ["1"]
        assert registry.gc(2) == []
        assert tree(disk) == before
        check_sound(registry)
        with registry.hold("m", 1) as held:
            assert held.is_real
    finally:
        mount(REMOUNT, f"size={SIZE_BYTES}")
    assert registry.publish("m", onnx_file, inspect=glance) == 3


def publish_some(root: Path, file: Path, count: int, barrier: Any, results: Any) -> None:
    barrier.wait(60)
    results.put([Registry(root).publish("m", file, inspect=glance, alias="newest") for _ in range(count)])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("publishers", [2, 8])
def test_publishers_at_once(registry: Registry, onnx_file: Path, publishers: int) -> None:
    """The model is new to all of them; a collector is at work meanwhile."""
    count = 5
    context = multiprocessing.get_context("fork")  # eight that import everything anew take seconds
    results, barrier = context.Queue(), context.Barrier(publishers)
    arguments = (registry.path, onnx_file, count, barrier, results)
    processes = [context.Process(target=publish_some, args=arguments) for _ in range(publishers)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes) and results.qsize() < publishers:
        with suppress(RegistryError):  # before the registry is there
            registry.gc(publishers * count)
        processes[0].join(0.01)
    numbers = [number for _ in processes for number in results.get(timeout=60)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(numbers) == registry.versions("m") == list(range(1, publishers * count + 1))
    check_sound(registry)
    lines = registry.audit("m")
    assert sorted(line.event for line in lines) == ["alias"] * len(numbers) + ["publish"] * len(numbers)
    assert [line.details["version"] for line in lines if line.event == "publish"] == sorted(numbers)
    assert registry.gc(publishers * count) == []


class SetBack(datetime):
    """A clock that goes back an hour whenever it is asked."""

    times = 0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "SetBack":
        cls.times += 1
        back = datetime(2001, 1, 1, tzinfo=tz) - timedelta(hours=cls.times)
        return cls.fromisoformat(back.isoformat())


def test_a_clock_that_goes_backwards(
    published: Registry, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "datetime", SetBack)
    monkeypatch.setattr(chain, "datetime", SetBack)
    assert [published.publish("m", onnx_file, inspect=glance, alias="champion") for _ in range(3)] == [
        2,
        3,
        4,
    ]
    check_sound(published)
    times = [line.at for line in published.audit("m")]
    assert times == sorted(times, reverse=True)
    manifest = published.describe("m", 4).manifest
    assert manifest is not None
    assert manifest.created_at < datetime(2001, 1, 1, tzinfo=UTC)
    assert manifest.signature == SIGNATURE
    assert published.rollback("m", "champion") == (4, 3)
    assert [one.what for one in published.gc(1)] == ["1", "2"]
    assert published.publish("m", onnx_file, inspect=glance) == 5
    assert published.check_audit("m") == []


@pytest.mark.parametrize("what", ["sync_directory", "hold_directory"])
def test_a_staging_that_cannot_be_made_leaves_nothing(
    registry: Registry, onnx_file: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(files if what == "sync_directory" else publishing, what, fail)
    with pytest.raises(RegistryError, match="cannot publish"):
        registry.publish("m", onnx_file, inspect=glance)
    assert not (registry.path / "m").exists()


@pytest.mark.parametrize(("times", "version"), [(2, 1), (1_000, None)])
def test_a_directory_that_somebody_removes_is_made_again(
    registry: Registry, onnx_file: Path, monkeypatch: pytest.MonkeyPatch, times: int, version: int | None
) -> None:
    """As a publisher does that fails in it, or a collector."""
    removed: list[str] = []

    def remove(step: str) -> None:
        if step == "m: made" and len(removed) < times:
            removed.append(step)
            (registry.path / "m").rmdir()

    monkeypatch.setattr(files, "on_step", remove)
    if version is None:
        with pytest.raises(RegistryError, match="it vanishes as soon as it is made"):
            registry.publish("m", onnx_file, inspect=glance)
    else:
        assert registry.publish("m", onnx_file, inspect=glance) == version
