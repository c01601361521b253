"""Publishing: whole or not at all, one number each, checked copies, whatever dies or lies."""

import errno
import json
import multiprocessing
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from fastserve.errors import ModelRejected, RegistryError
from fastserve.registry import Registry, files, publishing
from fastserve.registry.rules import FileRules
from fastserve.runtime import inspect
from fastserve.types import Signature
from tests import models
from tests.registry.conftest import SIGNATURE, glance, tree


def test_publishing_makes_the_registry(registry: Registry, onnx_file: Path) -> None:
    assert registry.publish("m", onnx_file, inspect=glance) == 1
    assert registry.models() == ["m"]
    log = {"m/.lock", "m/audit.jsonl", "m/.audit-head"}
    assert tree(registry.path) == {*log, "m/1/manifest.json", "m/1/model.onnx"}
    assert (registry.path / "m/1/model.onnx").read_bytes() == models.scaled()


def test_numbers_go_up(registry: Registry, onnx_file: Path) -> None:
    assert [registry.publish("m", onnx_file, inspect=glance) for _ in range(3)] == [1, 2, 3]
    assert registry.publish("other", onnx_file, inspect=glance) == 1
    assert registry.versions("m") == [1, 2, 3]
    for version in (1, 2, 3):
        registry.verify("m", version)


@pytest.mark.parametrize(
    ("taken", "expected"),
    [(["7"], 8), (["2", "10"], 11), (["007", "x9"], 1), (["9" * 30], 1)],
)
def test_no_number_in_use_is_taken(
    registry: Registry, onnx_file: Path, taken: list[str], expected: int
) -> None:
    for name in taken:
        (registry.path / "m" / name).mkdir(parents=True)  # not whole, yet in somebody's use
    assert registry.publish("m", onnx_file, inspect=glance) == expected


def test_a_file_in_the_place_of_a_version(registry: Registry, onnx_file: Path) -> None:
    (registry.path / "m").mkdir(parents=True)
    (registry.path / "m/4").touch()
    assert registry.publish("m", onnx_file, inspect=glance) == 5


def test_when_the_numbers_end(registry: Registry, onnx_file: Path) -> None:
    (registry.path / "m" / ("9" * 18)).mkdir(parents=True)
    with pytest.raises(RegistryError, match=r"no version number left"):
        registry.publish("m", onnx_file, inspect=glance)


def test_the_manifest_says_what_and_where_from(registry: Registry, onnx_file: Path) -> None:
    provenance = {"data": "sha256:ab", "parameters": {"depth": 3}, "metrics": {"auc": 0.71}, "parent": None}
    registry.publish("m", onnx_file, inspect=inspect, provenance=provenance)
    content = json.loads((registry.path / "m/1/manifest.json").read_text())
    assert content["schema_version"] == 1
    assert (content["model"], content["version"]) == ("m", 1)
    assert content["files"]["model.onnx"]["bytes"] == len(models.scaled())
    assert content["signature"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert content["provenance"] == provenance
    manifest = registry.verify("m", 1).manifest
    assert manifest is not None
    assert manifest.signature == inspect(registry.path / "m/1/model.onnx")


def test_the_copy_is_what_is_checked(registry: Registry, onnx_file: Path) -> None:
    seen: list[Path] = []

    def look(path: Path) -> Signature:
        seen.append(path)
        onnx_file.write_bytes(b"swapped while being published")
        return inspect(path)

    registry.publish("m", onnx_file, inspect=look)
    assert seen[0].name == "model.onnx"
    assert registry.path in seen[0].parents
    registry.verify("m", 1)
    assert (registry.path / "m/1/model.onnx").read_bytes() == models.scaled()


def test_published_files_are_read_only(published: Registry) -> None:
    for name in ("model.onnx", "manifest.json"):
        assert (published.path / "m/1" / name).stat().st_mode & 0o222 == 0


def test_a_refused_model_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(models.with_zipmap())
    with pytest.raises(ModelRejected, match=r"zipmap"):
        registry.publish("m", bad, inspect=inspect)
    assert tree(registry.path) == set()
    assert not (registry.path / "m").exists()


def test_a_refused_model_leaves_the_others(published: Registry, tmp_path: Path) -> None:
    before = tree(published.path)
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(models.mlp(3, 4, 2)[:-20])
    with pytest.raises(ModelRejected):
        published.publish("m", bad, inspect=inspect)
    assert tree(published.path) == before


@pytest.mark.parametrize("make", ["missing", "directory", "pipe", "empty"])
def test_what_is_not_a_file(registry: Registry, tmp_path: Path, make: str) -> None:
    path = tmp_path / make
    if make == "directory":
        path.mkdir()
    elif make == "pipe":
        os.mkfifo(path)
    elif make == "empty":
        path.touch()
    with pytest.raises((RegistryError, ModelRejected), match=r"not a file|is empty"):
        registry.publish("m", path, inspect=glance)


def test_provenance_that_is_not_json(registry: Registry, onnx_file: Path) -> None:
    with pytest.raises(RegistryError, match=r"the provenance cannot be written as JSON"):
        registry.publish("m", onnx_file, inspect=glance, provenance={"model": object()})
    assert not (registry.path / "m").exists()


def test_provenance_that_no_manifest_holds(
    published: Registry, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could be written, and never be read again."""
    before = tree(published.path)
    monkeypatch.setattr(publishing, "MAX_MANIFEST_BYTES", 2_000)
    with pytest.raises(
        RegistryError, match=r"makes a manifest.json of \d+ bytes, more than the limit of 2000$"
    ):
        published.publish("m", onnx_file, inspect=glance, provenance={"notes": "a" * 2_000})
    assert tree(published.path) == before


def test_nothing_is_published_for_an_alias_that_is_none(registry: Registry, onnx_file: Path) -> None:
    with pytest.raises(RegistryError, match=r"'1' is not an alias"):
        registry.publish("m", onnx_file, inspect=glance, alias="1")
    assert tree(registry.path) == set()


def test_what_is_too_large_is_refused_before_a_byte_is_written(
    registry: Registry, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    monkeypatch.setattr(files, "on_step", steps.append)
    rules = FileRules(max_version_bytes=onnx_file.stat().st_size - 1)
    with pytest.raises(ModelRejected, match=r"larger than the limit"):
        Registry(registry.path, rules=rules).publish("m", onnx_file, inspect=glance)
    assert "model.onnx: opened" not in steps


def test_external_data_comes_along(registry: Registry, tmp_path: Path) -> None:
    data, raw = models.external_data("weights.bin")
    (tmp_path / "big.onnx").write_bytes(data)
    (tmp_path / "weights.bin").write_bytes(raw)
    (tmp_path / "unrelated.bin").write_bytes(b"stays")
    registry.publish("m", tmp_path / "big.onnx", inspect=inspect)
    assert tree(registry.path / "m/1") == {"manifest.json", "model.onnx", "weights.bin"}
    manifest = registry.verify("m", 1).manifest
    assert manifest is not None
    assert set(manifest.files) == {"model.onnx", "weights.bin"}
    (line,) = registry.audit("m")
    assert (line.details["files"], line.details["bytes"]) == (2, len(data) + len(raw))
    assert line.details["signed"] is False
    (registry.path / "m/1/weights.bin").chmod(0o644)
    (registry.path / "m/1/weights.bin").write_bytes(bytes(len(raw)))
    with pytest.raises(RegistryError, match=r"m/1/weights.bin does not have the checksum"):
        registry.verify("m", 1)


@pytest.mark.parametrize(
    "location",
    [
        "../weights.bin",
        "/etc/hostname",
        "sub/weights.bin",
        ".hidden",
        "manifest.json",
        "profile.json",
        "profile.npz",
        "",
    ],
)
def test_external_data_from_elsewhere_is_refused(registry: Registry, tmp_path: Path, location: str) -> None:
    data, raw = models.external_data(location)
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.onnx").write_bytes(data)
    (tmp_path / "weights.bin").write_bytes(raw)
    with pytest.raises(RegistryError, match=r"only files beside the model are read"):
        registry.publish("m", source / "model.onnx", inspect=glance)
    assert tree(registry.path) == set()


@pytest.mark.parametrize("make", ["missing", "link"])
def test_external_data_that_is_not_a_file_beside(registry: Registry, tmp_path: Path, make: str) -> None:
    data, _ = models.external_data("weights.bin")
    (tmp_path / "model.onnx").write_bytes(data)
    if make == "link":
        (tmp_path / "weights.bin").symlink_to("/etc/hostname")
    with pytest.raises(RegistryError, match=r"external data from 'weights.bin', not a file beside it"):
        registry.publish("m", tmp_path / "model.onnx", inspect=glance)


def test_a_disk_that_fails_at_any_sync(
    published: Registry, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, calls, failing = os.fsync, 0, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    before, left_nothing = tree(published.path), 0
    for failing in range(1, 30):
        calls, known = 0, published.versions("m")
        try:
            published.publish("m", onnx_file, inspect=glance)
        except RegistryError as error:
            assert "No space left on device" in str(error)  # noqa: PT017 - not every sync must fail it
        if calls < failing:
            break
        assert published.check_audit("m") == []
        if published.versions("m") == known:
            left_nothing += tree(published.path) == before
        before = tree(published.path)
    # Registry, model, manifest, staging, log, head, model's directory: before all that, nothing is seen.
    assert left_nothing == 7
    assert calls == failing - 1 == 8
    for version in published.versions("m"):
        published.verify("m", version)


def test_a_directory_that_cannot_be_made(tmp_path: Path, onnx_file: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RegistryError, match=r"cannot publish"):
        Registry(tmp_path / "file").publish("m", onnx_file, inspect=glance)


def test_a_name_taken_between_the_look_and_the_rename(
    published: Registry, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename
    calls: list[Path] = []

    def late(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 1:  # someone who knows no locks
            target.mkdir()
            (target / "model.onnx").touch()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    assert published.publish("m", onnx_file, inspect=glance) == 3
    assert [target.name for target in calls] == ["2", "3", ".audit-head"]
    assert published.check_audit("m") == []
    assert [line.details["version"] for line in published.audit("m")] == [1, 3]
    assert published.verify("m", 3).version == 3


def test_everything_is_synced_before_it_is_visible(
    registry: Registry, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def synced(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        events.append(path.name.split("-")[0] if path.name.startswith((".staging-", ".tmp-")) else path.name)
        fsync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        events.append(f"rename to {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    registry.publish("m", onnx_file, inspect=glance)
    head = [".audit-head.new", "rename to .audit-head", "m"]
    assert events[:2] == ["registry", "model.onnx"]
    assert events[2:5] == head  # a log begins with its head
    assert events[5:7] == ["manifest.json", ".staging"]
    assert events[7:9] == ["audit.jsonl", head[0]]
    assert events[9:] == ["rename to 1", "m", *head[1:]]
    events.clear()
    registry.set_alias("m", "champion", 1)
    assert events == ["audit.jsonl", head[0], ".tmp", "rename to aliases.json", "m", *head[1:]]


def die_while_inspecting(root: Path, file: Path) -> None:
    def die(path: Path) -> Signature:
        os._exit(9)

    Registry(root).publish("m", file, inspect=die)


def test_a_publisher_that_dies_is_never_seen(published: Registry, onnx_file: Path) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=die_while_inspecting, args=(published.path, onnx_file))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert any(".staging-" in name for name in tree(published.path))
    assert published.versions("m") == [1]
    assert published.models() == ["m"]
    assert published.publish("m", onnx_file, inspect=glance) == 2


def publish_many(root: Path, file: Path, count: int, results: Any) -> None:
    results.put([Registry(root).publish("m", file, inspect=glance) for _ in range(count)])


def test_publishers_in_several_processes_never_share_a_number(registry: Registry, onnx_file: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [
        context.Process(target=publish_many, args=(registry.path, onnx_file, 10, results)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    numbers = [number for _ in processes for number in results.get(timeout=60)]
    for process in processes:
        process.join(60)
    assert sorted(numbers) == list(range(1, 31))
    assert registry.check_audit("m") == []
    assert registry.versions("m") == list(range(1, 31))
    for version in registry.versions("m"):
        registry.verify("m", version)


def test_publishers_in_several_threads_never_share_a_number(registry: Registry, onnx_file: Path) -> None:
    numbers: list[int] = []

    def work() -> None:
        for _ in range(5):
            numbers.append(registry.publish("m", onnx_file, inspect=glance))  # noqa: PERF401

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 21))


def test_a_refusal_beside_a_success(registry: Registry, onnx_file: Path, tmp_path: Path) -> None:
    """One publisher fails in a model directory that it made while another is at work there."""
    inside, go_on = threading.Event(), threading.Event()

    def slow(path: Path) -> Signature:
        inside.set()
        assert go_on.wait(30)
        return SIGNATURE

    def refuse(path: Path) -> Signature:
        other.start()
        assert inside.wait(30)
        raise ModelRejected("no")

    other = threading.Thread(target=lambda: registry.publish("m", onnx_file, inspect=slow))
    with pytest.raises(ModelRejected):
        registry.publish("m", onnx_file, inspect=refuse)
    go_on.set()
    other.join()
    assert registry.versions("m") == [1]


def test_another_name_of_a_model_is_no_model(registry: Registry, onnx_file: Path) -> None:
    registry.publish("cats", onnx_file, inspect=glance)
    (registry.path / "Cats").symlink_to("cats")
    with pytest.raises(RegistryError, match="'Cats' is another name of a model that is there"):
        registry.publish("Cats", onnx_file, inspect=glance)
    (registry.path / "dogs").symlink_to("/etc")
    with pytest.raises(
        RegistryError, match=r"cannot publish to '.*/dogs': it is a link that leaves the registry"
    ):
        registry.publish("dogs", onnx_file, inspect=glance)
    assert registry.versions("cats") == [1]
    assert registry.publish("cats", onnx_file, inspect=glance) == 2
