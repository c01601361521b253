"""Profiles: published with a version or put beside it, whole or not at all, and nobody else's."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fastserve.errors import ModelNotFound, ModelRejected, RegistryError, VersionNotFound
from fastserve.registry import FileRules, Registry, files, profiles, publishing, sidecar
from tests.registry.conftest import glance, tree
from tests.registry.test_gc import shot

OWN, OLD, NEW = b'{"own": 1}\n', b"old\n\x00bytes", b"new bytes"


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


@pytest.fixture
def two(registry: Registry, onnx_file: Path) -> Registry:
    """Version 1 has a profile of its own, version 2 has none."""
    registry.publish("m", onnx_file, inspect=glance, profile=OWN)
    registry.publish("m", onnx_file, inspect=glance)
    return registry


def beside(registry: Registry, version: int, model: str = "m") -> Path:
    return registry.path / model / "profiles" / f"{version}.json"


def said(registry: Registry) -> list[dict[str, Any]]:
    return [dict(line.details) for line in registry.audit("m") if line.event == "profile"]


def test_published_with_a_version(two: Registry) -> None:
    record = two.verify("m", 1)
    assert record.manifest is not None
    assert record.manifest.files["profile.json"].model_dump() == {"sha256": digest(OWN), "bytes": len(OWN)}
    assert (two.path / "m/1/profile.json").read_bytes() == OWN
    assert (two.path / "m/1/profile.json").stat().st_mode & 0o222 == 0
    assert two.audit("m")[0].details["files"] == 2
    assert (two.profile("m", 1), two.profile("m", 2)) == (OWN, None)
    assert said(two) == []


def test_a_profile_of_its_own_that_changed(two: Registry) -> None:
    path = two.path / "m/1/profile.json"
    path.chmod(0o644)
    path.write_bytes(OWN[:-2] + b"]\n")
    message = r"m/1/profile.json does not have the checksum that the manifest says"
    for look in (two.verify, two.profile):
        with pytest.raises(RegistryError, match=message):
            look("m", 1)
    with pytest.raises(RegistryError, match=message + r": --replace puts this profile in its place"):
        two.add_profile("m", 1, NEW)
    path.unlink()
    with pytest.raises(RegistryError, match=r"m/1/profile.json is missing, and the manifest lists it"):
        two.profile("m", 1)
    assert two.add_profile("m", 1, NEW, replace=True) == digest(NEW)
    assert two.profile("m", 1) == NEW


def test_a_file_that_no_manifest_lists_is_no_profile(two: Registry) -> None:
    (two.path / "m/2/profile.json").write_bytes(OWN)
    shutil.copytree(two.path / "m/1", two.path / "m/3")
    (two.path / "m/3/manifest.json").unlink()
    assert two.profile("m", 2) is two.profile("m", 3) is None


def test_it_counts_in_the_size_of_a_version(registry: Registry, onnx_file: Path) -> None:
    limit = onnx_file.stat().st_size + len(OWN)
    small = Registry(registry.path, rules=FileRules(max_version_bytes=limit))
    with pytest.raises(ModelRejected, match=r"external data and profile, is larger than the limit"):
        small.publish("m", onnx_file, inspect=glance, profile=OWN + b" ")
    assert tree(registry.path) == set()
    assert small.publish("m", onnx_file, inspect=glance, profile=OWN) == 1


def test_too_large(two: Registry, onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (publishing, profiles, sidecar):
        assert vars(module)["MAX_PROFILE_BYTES"] == 64 * 2**20
        monkeypatch.setattr(module, "MAX_PROFILE_BYTES", 20)
    before = tree(two.path)
    changes: tuple[Callable[[], object], ...] = (
        lambda: two.publish("m", onnx_file, inspect=glance, profile=b"x" * 21),
        lambda: two.publish("new", onnx_file, inspect=glance, profile=b"x" * 21),
        lambda: two.add_profile("m", 2, b"x" * 21),
    )
    for change in changes:
        with pytest.raises(RegistryError, match=r"the profile has 21 bytes, more than the limit of 20"):
            change()
    assert tree(two.path) == before
    two.add_profile("m", 2, b"x" * 20)
    two.publish("m", onnx_file, inspect=glance, profile=b"x" * 20)
    assert two.profile("m", 2) == two.profile("m", 3) == b"x" * 20
    for module in (profiles, sidecar):
        monkeypatch.setattr(module, "MAX_PROFILE_BYTES", 19)
    with pytest.raises(RegistryError, match=r"m/profiles/2.json holds a profile larger than 19 bytes"):
        two.profile("m", 2)
    with pytest.raises(RegistryError, match=r"m/3/profile.json is larger than 19 bytes"):
        two.profile("m", 3)
    beside(two, 2).write_bytes(b"x" * (sidecar.MAX_HEADER_BYTES + 20))
    with pytest.raises(RegistryError, match=r"m/profiles/2.json is larger than \d+ bytes"):
        two.profile("m", 2)


def test_put_beside_a_version(two: Registry) -> None:
    version = shot(two.path / "m/2")
    assert two.add_profile("m", 2, OLD) == digest(OLD)
    assert two.profile("m", 2) == OLD
    assert shot(two.path / "m/2") == version
    line, content = beside(two, 2).read_bytes().split(b"\n", 1)
    header = json.loads(line)
    assert list(header) == ["model", "version", "sha256", "created_at"]
    assert (header["model"], header["version"], header["sha256"]) == ("m", 2, digest(OLD))
    assert content == OLD
    assert said(two) == [{"version": 2, "sha256": digest(OLD), "bytes": len(OLD), "replaces": None}]
    assert two.check_audit("m") == []
    assert two.versions("m") == [1, 2]
    assert set(two.places("m")) == {1, 2}
    assert two.models() == ["m"]
    two.verify("m", 2)


def test_only_replace_takes_the_place_of_another(two: Registry) -> None:
    two.add_profile("m", 2, OLD)
    for version in (1, 2):
        before = shot(two.path / "m/profiles")
        message = rf"version {version} of model 'm' has a profile already: --replace puts this one in"
        with pytest.raises(RegistryError, match=message):
            two.add_profile("m", version, NEW)
        assert shot(two.path / "m/profiles") == before
        two.add_profile("m", version, NEW, replace=True)
        assert two.profile("m", version) == NEW
    assert [(one["version"], one["replaces"]) for one in said(two)] == [
        (2, None),
        (1, digest(OWN)),
        (2, digest(OLD)),
    ]
    two.verify("m", 1)


def test_the_same_again_changes_nothing(two: Registry) -> None:
    two.add_profile("m", 2, OLD)
    before = shot(two.path / "m/profiles"), two.audit("m")
    for replace in (False, True):
        assert two.add_profile("m", 2, OLD, replace=replace) == digest(OLD)
        assert two.add_profile("m", 1, OWN, replace=replace) == digest(OWN)
    assert (shot(two.path / "m/profiles"), two.audit("m")) == before


def test_what_is_not_there(two: Registry) -> None:
    for look in (two.profile, lambda model, version: two.add_profile(model, version, NEW)):
        with pytest.raises(VersionNotFound):
            look("m", 3)
        with pytest.raises(ModelNotFound):
            look("none", 1)
    with pytest.raises(RegistryError, match=r"'profile' cannot be recorded"):
        two.record("m", "profile", version=1, reason="")


def test_the_stamp_differs_when_the_profile_does(two: Registry) -> None:
    seen = [two.profile_stamp("m", 2), two.profile_stamp("m", 1)]
    assert seen[0] is None
    for version, content in ((1, OLD), (2, OLD), (2, NEW), (2, OLD)):
        two.add_profile("m", version, content, replace=True)
        seen.append(two.profile_stamp("m", version))
        assert seen[-1] == two.profile_stamp("m", version)
    assert len(set(seen)) == len(seen)
    beside(two, 1).unlink()
    assert two.profile_stamp("m", 1) == seen[1]
    assert two.profile_stamp("m", 3) is None
    with pytest.raises(ModelNotFound):
        two.profile_stamp("../m", 1)


def test_every_tampered_byte_is_seen(two: Registry) -> None:
    two.add_profile("m", 2, OLD)
    path = beside(two, 2)
    data = path.read_bytes()
    # When it was made is for people, and says nothing of the bytes.
    free = range(data.index(b'"created_at"') + 14, data.index(b"\n") - 2)
    for at in range(len(data)):
        if at in free:
            continue
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(RegistryError, match=r"^m/profiles/2.json\b"):
            two.profile("m", 2)
    for wrong in (data[:-1], data + b"x", b"", OLD, data.split(b"\n")[0], b"[" * 4000 + b"\n", data[1:]):
        path.write_bytes(wrong)
        with pytest.raises(RegistryError, match=r"^m/profiles/2.json\b"):
            two.profile("m", 2)
    path.write_bytes(data)
    assert two.profile("m", 2) == OLD


@pytest.mark.parametrize(
    "change",
    [
        {"created_at": "yesterday"},
        {"created_at": 5},
        {"version": "2"},
        {"version": True},
        {"version": -(10**30)},
        {"model": None},
        {"more": 1},
        {"sha256": ["a"]},
    ],
)
def test_a_wrong_first_line(two: Registry, change: dict[str, Any]) -> None:
    two.add_profile("m", 2, OLD)
    line, content = beside(two, 2).read_bytes().split(b"\n", 1)
    header = json.dumps({**json.loads(line), **change}, separators=(",", ":")).encode()
    beside(two, 2).write_bytes(header + b"\n" + content)
    with pytest.raises(RegistryError, match=r"^m/profiles/2.json"):
        two.profile("m", 2)


def test_another_versions_profile(two: Registry, onnx_file: Path) -> None:
    two.publish("other", onnx_file, inspect=glance)
    two.add_profile("m", 1, OLD, replace=True)
    two.add_profile("other", 1, NEW)
    shutil.copy(beside(two, 1), beside(two, 2))
    with pytest.raises(RegistryError, match=r"m/profiles/2.json belongs to version 1 of 'm'"):
        two.profile("m", 2)
    shutil.copy(beside(two, 1, "other"), beside(two, 1))
    with pytest.raises(RegistryError, match=r"m/profiles/1.json belongs to version 1 of 'other'"):
        two.profile("m", 1)


def test_a_broken_one_can_be_replaced(two: Registry) -> None:
    two.add_profile("m", 2, OLD)
    beside(two, 2).write_bytes(beside(two, 2).read_bytes() + b"x")
    with pytest.raises(RegistryError, match=r"checksum .*: --replace puts this profile in its place"):
        two.add_profile("m", 2, OLD)
    two.add_profile("m", 2, OLD, replace=True)
    assert two.profile("m", 2) == OLD
    assert said(two)[-1]["replaces"] is None
    assert two.check_audit("m") == []


@pytest.mark.parametrize("make", ["link", "loop", "pipe", "directory"])
def test_no_file_inside_the_registry(two: Registry, tmp_path: Path, make: str) -> None:
    two.add_profile("m", 2, OLD)
    outside = tmp_path / "outside.json"
    shutil.move(beside(two, 2), outside)
    if make == "link":
        beside(two, 2).symlink_to(outside)
    elif make == "loop":
        beside(two, 2).symlink_to("2.json")
    elif make == "pipe":
        os.mkfifo(beside(two, 2))
    else:
        beside(two, 2).mkdir()
    with pytest.raises(RegistryError, match=r"m/profiles/2.json is not a regular file inside the registry"):
        two.profile("m", 2)
    if make == "directory":
        with pytest.raises(RegistryError, match=r"model 'm' cannot be changed: Is a directory"):
            two.add_profile("m", 2, NEW, replace=True)
        assert len(said(two)) == 1
        return
    two.add_profile("m", 2, NEW, replace=True)
    assert two.profile("m", 2) == NEW
    assert outside.read_bytes().endswith(OLD)


@pytest.mark.parametrize("make", ["link", "file"])
def test_no_directory_of_profiles(two: Registry, tmp_path: Path, make: str) -> None:
    outside, path = tmp_path / "outside", two.path / "m/profiles"
    outside.mkdir()
    (outside / "9.json").touch()
    (outside / ".tmp-1").touch()
    if make == "link":
        path.symlink_to(outside)
    else:
        path.touch()
    changes: tuple[Callable[[], object], ...] = (
        lambda: two.profile("m", 1),
        lambda: two.add_profile("m", 2, NEW),
        lambda: two.add_profile("m", 2, NEW, replace=True),
    )
    for change in changes:
        with pytest.raises(RegistryError, match=r"m/profiles is not a directory"):
            change()
    assert [one.what for one in two.gc(1)] == ["1"]
    assert tree(outside) == {"9.json", ".tmp-1"}
    assert path.is_symlink() == (make == "link")


def test_the_disk_refuses(two: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    two.add_profile("m", 2, OLD)
    before = two.audit("m")

    def step(name: str) -> None:
        if name == "2.json: written":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files, "on_step", step)
        with pytest.raises(RegistryError, match=r"model 'm' cannot be changed: No space left on device"):
            two.add_profile("m", 2, NEW, replace=True)
    assert two.profile("m", 2) == OLD
    assert two.audit("m") == before
    assert os.listdir(two.path / "m/profiles") == ["2.json"]


def test_a_read_only_registry(two: Registry, read_only: Callable[[], None]) -> None:
    read_only()
    with pytest.raises(RegistryError, match=r"^model 'm' cannot be changed: Read-only file system$"):
        two.add_profile("m", 2, NEW)
    assert two.profile("m", 1) == OWN
    assert not (two.path / "m/profiles").exists()


def test_collecting(two: Registry, onnx_file: Path) -> None:
    two.publish("m", onnx_file, inspect=glance)
    two.add_profile("m", 1, OLD, replace=True)
    two.add_profile("m", 2, NEW)
    two.set_alias("m", "champion", 2)
    folder = two.path / "m/profiles"
    (folder / "9.json").write_bytes(b"12345")
    (folder / ".tmp-1-ab").write_bytes(b"123")
    for name in ("notes", "007.json", "9.txt"):
        (folder / name).write_text("mine")
    (folder / "8.json").mkdir()
    size = beside(two, 1).stat().st_size + sum(one.stat().st_size for one in (two.path / "m/1").iterdir())
    would = two.gc(1, dry_run=True)
    assert [(one.what, one.bytes, one.why) for one in would] == [
        ("profiles/.tmp-1-ab", 3, "a writer died"),
        ("profiles/9.json", 5, "its version is gone"),
        ("1", size, "older than the newest 1, no alias, not in use"),
    ]
    assert len(os.listdir(folder)) == 8
    assert two.gc(1) == would
    assert set(os.listdir(folder)) == {"2.json", "8.json", "notes", "007.json", "9.txt"}
    assert two.profile("m", 2) == NEW
    assert [line.event for line in two.audit("m")][-1] == "gc"
    assert two.check_audit("m") == []
    assert two.gc(1) == []
