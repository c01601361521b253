"""What is listed, what is described, and what a version must be to be loaded."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fastserve.errors import ModelNotFound, ModelRejected, RegistryError
from fastserve.registry import Registry
from fastserve.types import DataType, Signature, TensorSpec
from tests import models
from tests.registry.conftest import SIGNATURE, glance


def foreign(registry: Registry, version: str, model: str = "m", data: bytes | None = None) -> Path:
    """Write a version as something that knows no manifests would."""
    directory = registry.path / model / version
    directory.mkdir(parents=True)
    (directory / "model.onnx").write_bytes(models.scaled() if data is None else data)
    return directory


def rewrite(registry: Registry, **changes: Any) -> None:
    """Change a published manifest, which nobody should."""
    path = registry.path / "m/1/manifest.json"
    content = json.loads(path.read_text()) | changes
    path.chmod(0o644)
    path.write_text(json.dumps(content))


def test_a_registry_that_is_not_there(registry: Registry) -> None:
    with pytest.raises(RegistryError, match=r"No such file"):
        registry.models()
    with pytest.raises(ModelNotFound):
        registry.versions("m")


def test_models_are_sorted_and_have_versions(registry: Registry) -> None:
    foreign(registry, "1", "zebra")
    foreign(registry, "3", "ant")
    (registry.path / "empty").mkdir()
    (registry.path / "file").touch()
    foreign(registry, "1", ".hidden")
    foreign(registry, "1", "stats")
    assert registry.models() == ["ant", "zebra"]


def test_only_whole_versions_count(registry: Registry) -> None:
    for good in ("1", "2", "10"):
        foreign(registry, good)
    for bad in ("0", "007", "01", "v3", "3.onnx", ".4", ".staging-5", "٣"):
        foreign(registry, bad)
    (registry.path / "m/20").mkdir()
    (registry.path / "m/21").touch()
    (registry.path / "m/22/model.onnx").mkdir(parents=True)
    (registry.path / "m/23").mkdir()
    (registry.path / "m/23/.model.onnx.Xy12").write_bytes(b"half of what rsync brings")
    assert registry.versions("m") == [1, 2, 10]


def test_links_that_leave_the_registry_do_not_count(registry: Registry, tmp_path: Path) -> None:
    foreign(registry, "1")
    outside = tmp_path / "outside"
    (outside / "1").mkdir(parents=True)
    (outside / "1/model.onnx").write_bytes(models.scaled())
    (registry.path / "linked").symlink_to(outside)
    (registry.path / "m/2").symlink_to(outside / "1")
    (registry.path / "m/3").mkdir()
    (registry.path / "m/3/model.onnx").symlink_to(outside / "1/model.onnx")
    (registry.path / "m/4").symlink_to("4")
    (registry.path / "m/5").symlink_to("nowhere")
    assert registry.models() == ["m"]
    assert registry.versions("m") == [1]
    for version in (2, 3, 4, 5):
        with pytest.raises(Exception, match=r"has no version"):
            registry.describe("m", version)
    with pytest.raises(ModelNotFound):
        registry.versions("linked")


def test_what_looks_like_a_model_and_is_none_is_named(registry: Registry, tmp_path: Path) -> None:
    foreign(registry, "1")
    for version in ("0", "01"):
        foreign(registry, version)
    for name in ("my model", "stats", ".hidden"):
        foreign(registry, "1", name)
    (foreign(registry, "2") / "model.onnx").rename(registry.path / "m" / "2" / "net.onnx")
    elsewhere = foreign(Registry(tmp_path / "elsewhere"), "7")
    (registry.path / "linked").symlink_to(elsewhere.parent)
    (registry.path / "m" / "9").symlink_to(elsewhere)
    for harmless in ("lost+found/x", "m/3", "m/notes", "empty"):
        (registry.path / harmless).mkdir(parents=True)
    (registry.path / "README").touch()
    (registry.path / "loop").symlink_to("loop")
    said = dict(registry.passed_over())
    assert list(said) == ["linked", "m/0", "m/01", "m/2", "m/9", "my model", "stats"]
    assert said["m/2"] == "has no model.onnx"
    assert said["linked"] == said["m/9"] == "is a link out of the registry"
    assert "without leading zeros" in said["m/01"]
    assert "is an endpoint" in said["stats"]
    assert registry.models() == ["m"]
    assert registry.versions("m") == [1]


def test_links_inside_the_registry_count(registry: Registry) -> None:
    # Kubernetes mounts a volume as links to a directory that it swaps.
    directory = foreign(registry, "..data", "..mount")
    (registry.path / "m/1").mkdir(parents=True)
    (registry.path / "m/1/model.onnx").symlink_to(directory / "model.onnx")
    (registry.path / "m/2").symlink_to("1")
    assert registry.versions("m") == [1, 2]
    assert registry.verify("m", 1).manifest is None


def test_a_registry_behind_a_link(published: Registry, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(published.path)
    behind = Registry(tmp_path / "link")
    assert behind.models() == ["m"]
    assert behind.verify("m", 1).version == 1


def test_a_foreign_version_is_described_without_manifest(registry: Registry) -> None:
    directory = foreign(registry, "4")
    record = registry.verify("m", 4)
    assert (record.model, record.version, record.path) == ("m", 4, directory / "model.onnx")
    assert record.manifest is None
    record.check_signature(SIGNATURE)


def test_a_published_version_is_described(published: Registry) -> None:
    record = published.describe("m", 1)
    assert record.manifest is not None
    assert record.manifest.signature == SIGNATURE
    assert record.manifest.files["model.onnx"].bytes == len(models.scaled())
    assert record.manifest.created_at.tzinfo is not None
    assert published.verify("m", 1) == record


def test_another_signature_is_named(published: Registry) -> None:
    other = Signature(
        (TensorSpec("x", DataType.FP32, (-1, 3)),),
        (TensorSpec("score", DataType.FP32, (-1, 3)),),
        batched=True,
    )
    with pytest.raises(
        RegistryError, match=r"m/1/manifest.json has another signature than the model: score, y"
    ):
        published.describe("m", 1).check_signature(other)


def test_what_calls_itself_a_batch_is_no_matter_of_the_manifest(published: Registry) -> None:
    """Another release may see one where this one saw none."""
    outputs = (TensorSpec("y", DataType.FP32, (1, 3)),)
    published.describe("m", 1).check_signature(Signature(SIGNATURE.inputs, outputs, batched=False))


def damage(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_truncated_model_is_named(published: Registry) -> None:
    damage(published.path / "m/1/model.onnx", models.scaled()[:-1])
    size = len(models.scaled())
    with pytest.raises(
        RegistryError, match=rf"m/1/model.onnx has {size - 1} bytes, the manifest says {size}"
    ):
        published.verify("m", 1)


def test_a_flipped_bit_is_named(published: Registry) -> None:
    data = bytearray(models.scaled())
    data[50] ^= 1
    damage(published.path / "m/1/model.onnx", bytes(data))
    with pytest.raises(RegistryError, match=r"m/1/model.onnx does not have the checksum"):
        published.verify("m", 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a manifest"),
        (b"{", "is not a manifest: Invalid JSON"),
        (b"[]", "is not a manifest"),
        (b"\xff\xfe", "is not a manifest"),
        (b"[" * 100_000, "is not a manifest"),
        (b" " * (4 * 1024 * 1024 + 1), "is larger than"),
    ],
)
def test_a_broken_manifest_is_named(published: Registry, content: bytes, message: str) -> None:
    damage(published.path / "m/1/manifest.json", content)
    assert published.versions("m") == [1]
    with pytest.raises(RegistryError, match=f"^m/1/manifest.json {message}"):
        published.describe("m", 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"extra": 1}, "extra"),
        ({"version": 0}, "version"),
        ({"created_at": "yesterday"}, "created_at"),
        ({"files": {"../../x": {"sha256": "0" * 64, "bytes": 1}}}, "files"),
        ({"files": {"model.onnx": {"sha256": "short", "bytes": 1}}}, "sha256"),
        ({"files": {"model.onnx": {"sha256": "0" * 64, "bytes": -1}}}, "bytes"),
        ({"files": {}}, "does not list model.onnx"),
        ({"version": 3}, "belongs to m/3: a version is not moved"),
        ({"model": "other"}, "belongs to other/1"),
    ],
)
def test_a_manifest_that_lies(published: Registry, changes: dict[str, Any], message: str) -> None:
    rewrite(published, **changes)
    with pytest.raises(RegistryError, match=message):
        published.verify("m", 1)


def test_a_file_that_the_manifest_lists_and_nobody_has(published: Registry) -> None:
    files = json.loads((published.path / "m/1/manifest.json").read_text())["files"]
    rewrite(published, files=files | {"weights.bin": {"sha256": "0" * 64, "bytes": 1}})
    with pytest.raises(RegistryError, match=r"m/1/weights.bin is missing"):
        published.verify("m", 1)


def test_a_manifest_that_is_a_link_out(published: Registry, tmp_path: Path) -> None:
    path = published.path / "m/1/manifest.json"
    path.rename(tmp_path / "manifest.json")
    path.symlink_to(tmp_path / "manifest.json")
    with pytest.raises(RegistryError, match=r"m/1/manifest.json is not a regular file inside the registry"):
        published.describe("m", 1)


def test_a_pipe_for_a_manifest_does_not_hang(published: Registry) -> None:
    path = published.path / "m/1/manifest.json"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(RegistryError, match=r"m/1/manifest.json is not a regular file"):
        published.describe("m", 1)


def test_weights_that_no_manifest_covers(published: Registry, tmp_path: Path) -> None:
    data, raw = models.external_data("weights.bin")
    source = tmp_path / "external.onnx"
    source.write_bytes(data)
    (tmp_path / "weights.bin").write_bytes(raw)
    assert published.publish("m", source, inspect=glance) == 2
    assert published.verify("m", 2).manifest is not None
    path = published.path / "m/2/manifest.json"
    content = json.loads(path.read_text())
    del content["files"]["weights.bin"]
    damage(path, json.dumps(content).encode())
    with pytest.raises(RegistryError, match=r"m/2/weights.bin holds weights but is not in the manifest"):
        published.verify("m", 2)


@pytest.mark.parametrize("location", ["../../../secret", "/etc/hostname", "sub/weights.bin", "missing.bin"])
def test_a_foreign_model_that_reads_elsewhere(registry: Registry, location: str) -> None:
    foreign(registry, "1", data=models.external_data(location)[0])
    with pytest.raises(
        RegistryError, match=r"m/1/model.onnx reads external data from .* not a file beside it"
    ):
        registry.verify("m", 1)


def test_a_foreign_model_with_a_link_for_weights(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(12))
    directory = foreign(registry, "1", data=models.external_data("weights.bin")[0])
    (directory / "weights.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(RegistryError, match=r"reads external data from 'weights.bin'"):
        registry.verify("m", 1)


@pytest.mark.parametrize("data", [b"", b"location but no protobuf \xff"])
def test_a_foreign_file_that_is_no_model(registry: Registry, data: bytes) -> None:
    foreign(registry, "1", data=data)
    with pytest.raises(ModelRejected, match=r"model.onnx is"):
        registry.verify("m", 1)
